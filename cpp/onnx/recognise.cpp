// What users pass for an ONNX file by mistake, told by its first bytes.
#include <array>

#include "onnx/messages.h"

namespace linnet::onnx {
namespace {

struct Magic {
    size_t offset;
    std::string_view bytes;
    std::string_view what;
};

using namespace std::string_view_literals;

constexpr std::array kMagics = {
    Magic{0, "version https://git-lfs"sv, "a Git LFS pointer: fetch the file itself with 'git lfs pull'"sv},
    Magic{0, "PK\x03\x04"sv,
          "a zip archive (PyTorch and Keras write such files: export the model to ONNX; or unpack the archive)"sv},
    Magic{4, "TFL3"sv, "a TensorFlow Lite model: convert it to ONNX first"sv},
    Magic{4, "ORTM"sv, "an ONNX Runtime .ort file: use the .onnx file that it was made from"sv},
    Magic{0, "\x89HDF\r\n"sv, "an HDF5 file, as Keras writes them: export the model to ONNX"sv},
    Magic{0, "GGUF"sv, "a GGUF file"sv},
    Magic{0, "\x93NUMPY"sv, "a NumPy array"sv},
    Magic{0, "\x80\x02"sv, "a Python pickle, as old PyTorch versions write them: export the model to ONNX"sv},
    Magic{0, "\x80\x03"sv, "a Python pickle: export the model to ONNX"sv},
    Magic{0, "\x80\x04"sv, "a Python pickle: export the model to ONNX"sv},
    Magic{0, "\x80\x05"sv, "a Python pickle: export the model to ONNX"sv},
    Magic{0, "\x1f\x8b"sv, "a gzip file: unpack it first"sv},
    Magic{0, "BZh"sv, "a bzip2 file: unpack it first"sv},
    Magic{0,
          "\xfd"
          "7zXZ"sv,
          "an xz file: unpack it first"sv},
    Magic{0, "\x28\xb5\x2f\xfd"sv, "a Zstandard file: unpack it first"sv},
    Magic{257, "ustar"sv, "a tar archive: unpack it first"sv},
    Magic{0,
          "\x7f"
          "ELF"sv,
          "a program or shared library"sv},
    Magic{0, "%PDF"sv, "a PDF document"sv},
    Magic{0, "\x89PNG"sv, "a PNG picture"sv},
    Magic{0, "\xff\xd8\xff"sv, "a JPEG picture"sv},
    Magic{0, "7767517"sv, "an ncnn model"sv},
};

}  // namespace

std::string_view recognise(Bytes bytes) {
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const Magic& magic : kMagics)
        if (text.size() >= magic.offset && text.substr(magic.offset).substr(0, magic.bytes.size()) == magic.bytes)
            return magic.what;
    if (text.size() > 9 && text[8] == '{' && (text[9] == '"' || text[9] == '}')) return "a safetensors file";
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return "white space";
    text.remove_prefix(first);
    if (text.substr(0, 2) == "<!" || text.substr(0, 5) == "<html" || text.substr(0, 5) == "<HTML")
        return "a web page (a download that went wrong?)";
    if (text.substr(0, 5) == "<?xml" || text.substr(0, 4) == "<net") return "an XML file, as OpenVINO writes them";
    if (text.substr(0, 1) == "<" && text.substr(0, 64).find("ir_version") != std::string_view::npos)
        return "ONNX's text form: write it as protobuf with onnx.parser and onnx.save";
    if (text.substr(0, 1) == "{") return "JSON";
    if (text.substr(0, 10) == "ir_version") return "protobuf's text form: write it as binary protobuf";
    return {};
}

}  // namespace linnet::onnx
