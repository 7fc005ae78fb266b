// From TensorProto to Tensor: raw bytes, typed fields, packed narrow types, external files.
#include "onnx/tensor_data.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/give_way.h"
#include "base/shape.h"

namespace linnet::onnx {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian");

// A dense copy of a sparse tensor may be this large: its size in the file says nothing about it.
constexpr int64_t kMaxDenseBytes = int64_t{1} << 31;

template <class... Parts>
[[noreturn]] void bad(const Parts&... parts) {
    fail(ErrorKind::invalid_protobuf, parts...);
}

Shape shape_of(const std::vector<int64_t>& dims, int64_t most_rank) {
    if (static_cast<int64_t>(dims.size()) > most_rank)
        bad("a tensor of ", dims.size(), " dimensions: at most ", most_rank, " are allowed (option max_rank)");
    for (const int64_t dim : dims)
        if (dim < 0) bad("a dimension of ", dim);
    Shape shape(dims.begin(), dims.end());
    try {
        element_count(shape);
    } catch (const Error&) {
        bad("the number of elements of shape ", shape_text(shape), " does not fit into 64 bits");
    }
    return shape;
}

DType dtype_from(int32_t number) {
    if (number == 27 || number == 28)
        fail(ErrorKind::not_implemented, "6-bit floating point elements (data_type ", number, ")");
    if (number <= 0 || number >= kDTypeCount) bad("data_type ", number, " is not known");
    return static_cast<DType>(number);
}

// Bytes that `count` elements take in a file.
int64_t file_bytes(DType dtype, int64_t count) {
    const int bits = dtype_file_bits(dtype);
    if (bits >= 8) {
        int64_t bytes = 0;
        if (__builtin_mul_overflow(count, int64_t{bits / 8}, &bytes))
            bad("the size in bytes does not fit into 64 bits");
        return bytes;
    }
    const int per_byte = 8 / bits;
    return count / per_byte + (count % per_byte != 0);
}

bool is_signed_narrow(DType dtype) { return dtype == DType::i4 || dtype == DType::i2; }

// One byte an element, lowest bits first.
void unpack(DType dtype, const uint8_t* from, uint8_t* to, int64_t count) {
    const int bits = dtype_file_bits(dtype);
    const int per_byte = 8 / bits;
    const auto mask = static_cast<uint8_t>((1 << bits) - 1);
    const auto sign = static_cast<uint8_t>(is_signed_narrow(dtype) ? 1 << (bits - 1) : 0);
    for (int64_t i = 0; i < count; ++i) {
        const auto value = static_cast<uint8_t>(from[i / per_byte] >> (i % per_byte * bits) & mask);
        to[i] = static_cast<uint8_t>((value ^ sign) - sign);
    }
}

// A view of `bytes` where memory may be used as it is, else a copy.
Tensor from_bytes(DType dtype, const Shape& shape, Bytes bytes, const std::shared_ptr<const void>& owner) {
    const int64_t count = element_count(shape);
    const auto* from = reinterpret_cast<const uint8_t*>(bytes.data());
    if (dtype_file_bits(dtype) < 8) {
        Tensor tensor = Tensor::allocate(dtype, shape);
        unpack(dtype, from, tensor.as<uint8_t>(), count);
        return tensor;
    }
    bool view = owner != nullptr && count > 0;
    // A complex number is aligned like its halves, but 8 is asked for: nothing is lost.
    const size_t align = std::min<size_t>(dtype_size(dtype), 8);
    if (reinterpret_cast<uintptr_t>(from) % align != 0) view = false;
    if (dtype == DType::boolean && view)
        for (int64_t i = 0; i < count && view; ++i) view = from[i] <= 1;
    if (view) {
        Tensor tensor;
        tensor.dtype = dtype;
        tensor.shape = shape;
        tensor.data = const_cast<uint8_t*>(from);  // nobody writes to a constant
        tensor.owner = owner;
        return tensor;
    }
    Tensor tensor = Tensor::allocate(dtype, shape);
    if (dtype == DType::boolean) {
        for (int64_t i = 0; i < count; ++i) tensor.as<uint8_t>()[i] = from[i] != 0;
    } else if (count > 0) {
        constexpr size_t kPiece = size_t{1} << 20;
        const size_t size = static_cast<size_t>(count) * dtype_size(dtype);
        for (size_t done = 0; done < size; done += kPiece) {
            give_way();
            std::memcpy(tensor.as<uint8_t>() + done, from + done, std::min(kPiece, size - done));
        }
    }
    release_pages(bytes.data(), bytes.size());
    return tensor;
}

// From a typed field whose entries are `per` to an element (2 for complex numbers) and already have the bits wanted.
template <class T>
Tensor from_field(DType dtype, const Shape& shape, const std::vector<T>& field, const char* name, int64_t per = 1) {
    const int64_t count = element_count(shape);
    if (static_cast<int64_t>(field.size()) % per != 0 || static_cast<int64_t>(field.size()) / per != count)
        bad("'", name, "' has ", field.size(), " entries, but shape ", shape_text(shape), " needs ", count,
            per == 2 ? " pairs" : "");
    Tensor tensor = Tensor::allocate(dtype, shape);
    const size_t size = dtype_size(dtype) / static_cast<size_t>(per);
    auto* to = static_cast<std::byte*>(tensor.data);
    if (size == sizeof(T)) {
        if (count > 0) std::memcpy(to, field.data(), field.size() * size);
    } else {
        // Little-endian: the low bytes of a number are its first.
        for (const T value : field) {
            std::memcpy(to, &value, size);
            to += size;
        }
    }
    return tensor;
}

Tensor from_int32(DType dtype, const Shape& shape, const std::vector<int32_t>& field) {
    if (dtype == DType::boolean) {
        std::vector<int32_t> bits(field);
        for (int32_t& value : bits) value = value != 0;
        return from_field(dtype, shape, bits, "int32_data");
    }
    if (dtype_file_bits(dtype) >= 8) return from_field(dtype, shape, field, "int32_data");
    const int64_t count = element_count(shape);
    if (static_cast<int64_t>(field.size()) != file_bytes(dtype, count))
        bad("'int32_data' has ", field.size(), " entries, but shape ", shape_text(shape), " of ", dtype_name(dtype),
            " needs ", file_bytes(dtype, count));
    std::vector<uint8_t> bytes(field.begin(), field.end());
    Tensor tensor = Tensor::allocate(dtype, shape);
    unpack(dtype, bytes.data(), tensor.as<uint8_t>(), count);
    return tensor;
}

Tensor from_strings(const Shape& shape, const std::vector<std::string_view>& field) {
    if (static_cast<int64_t>(field.size()) != element_count(shape))
        bad("'string_data' has ", field.size(), " entries, but shape ", shape_text(shape), " needs ",
            element_count(shape));
    Tensor tensor = Tensor::allocate(DType::string, shape);
    for (size_t i = 0; i < field.size(); ++i) {
        count_text(field[i].size());
        tensor.as<std::string>()[i] = field[i];
    }
    return tensor;
}

int64_t number_of(std::string_view key, std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 0)
        bad("external data: ", key, " '", text, "' is not a size");
    return value;
}

Tensor from_external(const TensorProto& proto, DType dtype, const Shape& shape, const TensorSource& source) {
    if (dtype == DType::string) bad("strings cannot be external data");
    std::string_view location;
    int64_t offset = 0, length = -1;
    for (const auto& [key, value] : proto.external_data) {
        if (key == "location") location = value;
        if (key == "offset") offset = number_of(key, value);
        if (key == "length") length = number_of(key, value);
    }
    if (source.folder.empty() || !source.external)
        fail(ErrorKind::invalid_argument, "external data '", location,
             "' of a model that was given as bytes: load the model by its path");
    const auto file = source.external->open(source.folder, location);
    const auto size = static_cast<int64_t>(file->bytes().size());
    const int64_t needed = file_bytes(dtype, element_count(shape));
    if (length >= 0 && length != needed)
        bad("external data '", location, "': length is ", length, ", but shape ", shape_text(shape), " of ",
            dtype_name(dtype), " needs ", needed, " bytes");
    if (offset > size || needed > size - offset)
        bad("external data '", location, "': ", needed, " bytes at offset ", offset, " reach beyond the file's ", size,
            " bytes");
    return from_bytes(dtype, shape, file->bytes().subspan(static_cast<size_t>(offset), static_cast<size_t>(needed)),
                      file);
}

}  // namespace

std::shared_ptr<const MappedFile> ExternalFiles::open(const std::filesystem::path& folder, std::string_view location) {
    const std::lock_guard lock(mutex);
    const auto found = mapped.find(location);
    if (found != mapped.end())
        if (auto file = found->second.lock()) return file;
    auto file = map_beneath(folder, location);
    const auto size = static_cast<int64_t>(file->bytes().size());
    if (found == mapped.end() && size > most_bytes - bytes)
        fail(ErrorKind::invalid_argument, "external data '", location, "' of ", size,
             " bytes: the model would take more bytes than are allowed (option max_model_bytes)");
    if (found == mapped.end()) bytes += size;
    mapped[std::string(location)] = file;
    return file;
}

Tensor decode_tensor(const TensorProto& proto, const TensorSource& source) {
    const DType dtype = dtype_from(proto.data_type);
    const Shape shape = shape_of(proto.dims, source.most_rank);
    if (proto.is_external) return from_external(proto, dtype, shape, source);
    if (proto.has_raw) {
        if (dtype == DType::string) bad("strings in raw_data: string_data expected");
        const int64_t needed = file_bytes(dtype, element_count(shape));
        if (static_cast<int64_t>(proto.raw.size()) != needed)
            bad("'raw_data' has ", proto.raw.size(), " bytes, but shape ", shape_text(shape), " of ", dtype_name(dtype),
                " needs ", needed);
        return from_bytes(dtype, shape, proto.raw, source.owner);
    }
    switch (dtype) {
        case DType::f32: return from_field(dtype, shape, proto.float_data, "float_data");
        case DType::c64: return from_field(dtype, shape, proto.float_data, "float_data", 2);
        case DType::f64: return from_field(dtype, shape, proto.double_data, "double_data");
        case DType::c128: return from_field(dtype, shape, proto.double_data, "double_data", 2);
        case DType::i64: return from_field(dtype, shape, proto.int64_data, "int64_data");
        case DType::u32:
        case DType::u64: return from_field(dtype, shape, proto.uint64_data, "uint64_data");
        case DType::string: return from_strings(shape, proto.string_data);
        default: return from_int32(dtype, shape, proto.int32_data);
    }
}

Tensor decode_sparse_tensor(const SparseTensorProto& proto, const TensorSource& source) {
    const Shape shape = shape_of(proto.dims, source.most_rank);
    const Tensor values = decode_tensor(proto.values, source);
    const Tensor indices = decode_tensor(proto.indices, source);
    const int64_t entries = values.count();
    const int64_t rank = static_cast<int64_t>(shape.size());
    if (values.rank() != 1)
        bad("values of a sparse tensor have shape ", shape_text(values.shape), ": one axis expected");
    if (indices.dtype != DType::i64)
        bad("indices of a sparse tensor are ", dtype_name(indices.dtype), ": int64 expected");
    const bool linear = indices.rank() == 1 && indices.shape[0] == entries;
    const bool coordinates = indices.rank() == 2 && indices.shape[0] == entries && indices.shape[1] == rank;
    if (!linear && !coordinates)
        bad("indices of a sparse tensor have shape ", shape_text(indices.shape), ": [", entries, "] or [", entries,
            ", ", rank, "] expected");
    const int64_t count = element_count(shape);
    if (count > kMaxDenseBytes / static_cast<int64_t>(dtype_size(values.dtype)))
        fail(ErrorKind::not_implemented, "a sparse tensor of ", count, " elements, which would take more than ",
             kMaxDenseBytes >> 20, " MiB as a dense one");

    Tensor dense = Tensor::allocate(values.dtype, shape);
    const size_t size = dtype_size(values.dtype);
    const bool text = values.dtype == DType::string;
    if (!text && count > 0) std::memset(dense.data, 0, static_cast<size_t>(count) * size);
    const auto* index = indices.as<int64_t>();
    for (int64_t i = 0; i < entries; ++i) {
        int64_t at = 0;
        if (linear) {
            at = index[i];
        } else {
            for (int64_t axis = 0; axis < rank; ++axis) {
                const int64_t place = index[i * rank + axis];
                const int64_t extent = shape[static_cast<size_t>(axis)];
                if (place < 0 || place >= extent)
                    bad("an index of a sparse tensor is ", place, " on axis ", axis, " of size ", extent);
                at = at * extent + place;
            }
        }
        if (at < 0 || at >= count) bad("an index of a sparse tensor is ", at, " of ", count, " elements");
        if (text) dense.as<std::string>()[at] = values.as<std::string>()[i];
        else
            std::memcpy(static_cast<std::byte*>(dense.data) + static_cast<size_t>(at) * size,
                        static_cast<const std::byte*>(values.data) + static_cast<size_t>(i) * size, size);
    }
    return dense;
}

Tensor read_tensor(const Model& model, const TensorProto& proto) {
    return decode_tensor(proto, {model.bytes, model.folder, model.external.get(), model.limits.rank});
}

Tensor read_sparse_tensor(const Model& model, const SparseTensorProto& proto) {
    return decode_sparse_tensor(proto, {model.bytes, model.folder, model.external.get(), model.limits.rank});
}

}  // namespace linnet::onnx
