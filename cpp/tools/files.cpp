// .npy as numpy.lib.format documents it: a magic, a version, the length of a header that is a Python dict literal,
// data.
#include "tools/files.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "onnx/model.h"

namespace linnet::tools {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);

struct NpyType {
    std::string_view code;
    DType dtype;
};
constexpr NpyType kTypes[] = {
    {"<f4", DType::f32}, {"<f8", DType::f64}, {"<f2", DType::f16},   {"|i1", DType::i8},      {"<i2", DType::i16},
    {"<i4", DType::i32}, {"<i8", DType::i64}, {"|u1", DType::u8},    {"<u2", DType::u16},     {"<u4", DType::u32},
    {"<u8", DType::u64}, {"<c8", DType::c64}, {"<c16", DType::c128}, {"|b1", DType::boolean},
};

template <class... Parts>
[[noreturn]] void bad(const Parts&... parts) {
    fail(ErrorKind::invalid_argument, "not a readable .npy file: ", parts...);
}

// The value that follows "'key':" in the header, without quotes or parentheses.
std::string_view entry(std::string_view header, std::string_view key) {
    const std::string quoted = cat('\'', key, '\'');
    size_t at = header.find(quoted);
    if (at == std::string_view::npos) bad("the header has no ", quoted);
    at = header.find(':', at + quoted.size());
    if (at != std::string_view::npos) at = header.find_first_not_of(' ', at + 1);
    if (at == std::string_view::npos) bad("the header breaks off");
    const char first = header[at];
    const bool wrapped = first == '(' || first == '\'';
    const size_t end = wrapped ? header.find(first == '(' ? ')' : '\'', at + 1) : header.find_first_of(",}", at);
    if (end == std::string_view::npos) bad("the header breaks off");
    return wrapped ? header.substr(at + 1, end - at - 1) : header.substr(at, end - at);
}

Shape parse_shape(std::string_view text) {
    Shape shape;
    int64_t number = -1;
    for (const char c : text) {
        if (c >= '0' && c <= '9') {
            number = checked_add(checked_mul(std::max<int64_t>(number, 0), 10), c - '0');
        } else if (c == ',') {
            if (number < 0) bad("the shape is (", text, ")");
            shape.push_back(number);
            number = -1;
        } else if (c != ' ') {
            bad("the shape is (", text, ")");
        }
    }
    if (number >= 0) shape.push_back(number);
    if (shape.size() > 64) bad("the shape has ", shape.size(), " dimensions");
    return shape;
}

// Elements of `from`, which lie in Fortran order, in C order.
Tensor reordered(const Tensor& from) {
    Tensor to = Tensor::allocate(from.dtype, from.shape);
    const size_t rank = from.shape.size(), size = dtype_size(from.dtype);
    Shape index(rank, 0);
    for (int64_t i = 0, count = from.count(); i < count; ++i) {
        int64_t at = 0;
        for (size_t axis = rank; axis-- > 0;) at = at * from.shape[axis] + index[axis];
        std::memcpy(static_cast<char*>(to.data) + static_cast<size_t>(i) * size,
                    static_cast<const char*>(from.data) + static_cast<size_t>(at) * size, size);
        for (size_t axis = rank; axis-- > 0;) {
            if (++index[axis] < from.shape[axis]) break;
            index[axis] = 0;
        }
    }
    return to;
}

}  // namespace

std::string read_text(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file || std::filesystem::is_directory(path))
        fail(ErrorKind::no_such_file, "cannot open '", path.string(), "'");
    std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (file.bad()) fail(ErrorKind::fail, "cannot read '", path.string(), "'");
    return text;
}

Tensor parse_npy(const std::string& bytes) {
    const std::string_view text = bytes;
    if (text.size() < 12 || text.substr(0, 6) != kMagic) bad("it does not begin with numpy's magic");
    const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(text[i])); };
    const size_t version = byte(6);
    if (version < 1 || version > 3) bad("version ", version, ": 1, 2 or 3 expected");
    const size_t begin = version == 1 ? 10 : 12;
    const size_t low = byte(8) | byte(9) << 8;
    const size_t length = version == 1 ? low : low | byte(10) << 16 | byte(11) << 24;
    if (length > text.size() - begin) bad("it breaks off in the header");
    const std::string_view header = text.substr(begin, length);
    const std::string_view code = entry(header, "descr");
    DType dtype = DType::undefined;
    for (const NpyType& type : kTypes)
        if (type.code == code) dtype = type.dtype;
    if (dtype == DType::undefined) bad("elements of type '", code, "' are not supported");
    const Shape shape = parse_shape(entry(header, "shape"));
    const int64_t size = checked_mul(element_count(shape), static_cast<int64_t>(dtype_size(dtype)));
    const std::string_view data = text.substr(begin + length);
    if (static_cast<uint64_t>(size) > data.size())
        bad(data.size(), " bytes of elements, but shape ", shape_text(shape), " of ", dtype_name(dtype), " needs ",
            size);
    Tensor tensor = Tensor::allocate(dtype, shape);
    if (size > 0) std::memcpy(tensor.data, data.data(), static_cast<size_t>(size));
    if (dtype == DType::boolean)
        for (int64_t i = 0; i < size; ++i) tensor.as<uint8_t>()[i] = tensor.as<uint8_t>()[i] != 0;
    return entry(header, "fortran_order").substr(0, 4) == "True" ? reordered(tensor) : tensor;
}

std::string write_npy(const Tensor& tensor) {
    std::string_view code;
    for (const NpyType& type : kTypes)
        if (type.dtype == tensor.dtype) code = type.code;
    if (code.empty()) {  // numpy has no such type: its bits
        const size_t size = dtype_size(tensor.dtype);
        if (tensor.dtype == DType::string || (size != 1 && size != 2))
            fail(ErrorKind::invalid_argument, "elements of type ", dtype_name(tensor.dtype), " have no .npy form");
        code = size == 1 ? "|u1" : "<u2";
    }
    std::string header = cat("{'descr': '", code, "', 'fortran_order': False, 'shape': (");
    for (const int64_t dim : tensor.shape) header += cat(dim, ", ");
    if (tensor.shape.size() > 1) header.resize(header.size() - 2);
    header += "), }";
    while ((10 + header.size() + 1) % 64 != 0) header += ' ';
    header += '\n';
    std::string out(kMagic);
    out += '\x01';
    out += '\0';
    out += static_cast<char>(header.size() & 0xff);
    out += static_cast<char>(header.size() >> 8);
    out += header;
    out.append(static_cast<const char*>(tensor.data), tensor.bytes());
    return out;
}

Value read_value(const std::filesystem::path& path, const Fact& fact) {
    try {
        const std::string bytes = read_text(path);
        if (bytes.compare(0, kMagic.size(), kMagic) == 0) {
            Tensor tensor = parse_npy(bytes);
            const bool bits = (tensor.dtype == DType::u8 || tensor.dtype == DType::u16) && fact.dtype >= DType::bf16 &&
                              dtype_size(fact.dtype) == dtype_size(tensor.dtype);
            if (bits) tensor.dtype = fact.dtype;
            return tensor;
        }
        using Kind = onnx::TypeProto::Kind;
        Kind kind = Kind::tensor;
        if (fact.kind == Value::Kind::sequence) kind = Kind::sequence;
        if (fact.kind == Value::Kind::map) kind = Kind::map;
        if (fact.optional) kind = Kind::optional;
        return onnx::read_value_pb(std::as_bytes(std::span<const char>(bytes)), kind);
    } catch (Error& error) {
        error.add_context(path.string());
        throw;
    }
}

}  // namespace linnet::tools
