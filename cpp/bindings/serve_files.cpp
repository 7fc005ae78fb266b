// What the server's loader does with files, without disturbing the threads that serve.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/give_way.h"
#include "bindings/convert.h"
#include "onnx/model.h"

namespace linnet::bindings {
namespace {

constexpr size_t kPiece = size_t{128} << 10;

[[noreturn]] void fail_with(const std::string& path) {
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    throw py::error_already_set();
}

// In short system calls, without the interpreter's lock: on a kernel without preemption, a long one keeps its core from
// a thread that has a request to answer.
void copy_file(const std::string& from, const std::string& to) {
    bool read_ok = true, write_ok = true;
    {
        py::gil_scoped_release release;
        std::vector<char> piece(kPiece);
        const std::unique_ptr<FILE, int (*)(FILE*)> in(std::fopen(from.c_str(), "rbe"), &std::fclose);
        std::unique_ptr<FILE, int (*)(FILE*)> out(in ? std::fopen(to.c_str(), "wbe") : nullptr, &std::fclose);
        read_ok = in != nullptr;
        write_ok = out != nullptr;
        if (in && out) {
            std::setvbuf(in.get(), nullptr, _IONBF, 0);
            std::setvbuf(out.get(), nullptr, _IONBF, 0);
            while (const size_t n = std::fread(piece.data(), 1, kPiece, in.get())) {
                if (!(write_ok = std::fwrite(piece.data(), 1, n, out.get()) == n)) break;
                give_way();
            }
            read_ok = std::ferror(in.get()) == 0;
            if (write_ok) write_ok = std::fclose(out.release()) == 0;
        }
    }
    if (!read_ok) fail_with(from);
    if (!write_ok) fail_with(to);
}

void collect(const onnx::TensorProto& tensor, std::set<std::string>& into) {
    for (const auto& [key, text] : tensor.external_data)
        if (key == "location") into.emplace(text);
}

void collect(const onnx::GraphProto& graph, std::set<std::string>& into);

void collect(const std::vector<onnx::NodeProto>& nodes, std::set<std::string>& into) {
    for (const onnx::NodeProto& node : nodes)
        for (const onnx::AttributeProto& attribute : node.attributes) {
            for (const onnx::TensorProto& tensor : attribute.t) collect(tensor, into);
            for (const onnx::GraphProto& graph : attribute.g) collect(graph, into);
        }
}

void collect(const onnx::GraphProto& graph, std::set<std::string>& into) {
    for (const onnx::TensorProto& tensor : graph.initializers) collect(tensor, into);
    collect(graph.nodes, into);
}

// Where a model's external data lie, as it says.
std::set<std::string> external_files(const std::filesystem::path& path) {
    const py::gil_scoped_release release;
    const auto model = onnx::read_model(path);
    std::set<std::string> found;
    collect(model->proto.graph, found);
    for (const onnx::FunctionProto& function : model->proto.functions) collect(function.nodes, found);
    return found;
}

}  // namespace

void bind_serve_files(py::module_& m) {
    m.def("copy_file", &copy_file, py::arg("source"), py::arg("target"),
          "Copies a file's bytes with as little disturbance of other threads as can be. OSError.");
    m.def("external_files", &external_files, py::arg("model"));
    m.def("set_gives_way", &set_gives_way, py::arg("gives_way"),
          "Whether the calling thread, from now on, hands its CPU over between two pieces of work.");
}

}  // namespace linnet::bindings
