// Files appear whole or not at all.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "onnx/writer.h"

namespace linnet::onnx {

void write_file(const std::filesystem::path& path, std::span<const Bytes> pieces) {
    const std::filesystem::path temporary = path.string() + ".tmp" + std::to_string(::getpid());
    const auto give_up = [&](const char* what) {
        fail(ErrorKind::fail, "cannot ", what, " '", path.string(), "': ", std::strerror(errno));
    };
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) give_up("create");
    const auto discard = [&](const char* what) {
        const int error = errno;
        ::unlink(temporary.c_str());
        errno = error;
        give_up(what);
    };
    for (Bytes rest : pieces) {
        while (!rest.empty()) {
            const ssize_t wrote = ::write(fd, rest.data(), rest.size());
            if (wrote < 0 && errno == EINTR) continue;
            if (wrote <= 0) {
                const int error = errno;
                ::close(fd);
                errno = error;
                discard("write");
            }
            rest = rest.subspan(static_cast<size_t>(wrote));
        }
    }
    if (::close(fd) != 0) discard("write");
    if (::rename(temporary.c_str(), path.c_str()) != 0) discard("rename to");
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
    const Bytes piece = std::as_bytes(std::span<const char>(bytes));
    write_file(path, {&piece, 1});
}

}  // namespace linnet::onnx
