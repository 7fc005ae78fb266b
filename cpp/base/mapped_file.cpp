// Files by mmap; names that come from a model are walked one component at a time, so that no link is ever followed.
#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "base/error.h"
#include "base/give_way.h"

namespace linnet {
namespace {

// The files that are mapped now, by their first byte.
struct Mappings {
    std::mutex mutex;
    std::map<const std::byte*, const std::byte*> ends;
};
Mappings& mappings() {
    static auto* all = new Mappings;  // outlives every session
    return *all;
}

class Descriptor {
  public:
    explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
    ~Descriptor() { reset(); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const noexcept { return fd_; }
    void reset(int fd = -1) noexcept {
        if (fd_ >= 0) ::close(fd_);
        fd_ = fd;
    }

  private:
    int fd_;
};

// O_NONBLOCK: opening a pipe must not wait for a writer (the type is checked on the open descriptor, not before).
constexpr int kFileFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

std::shared_ptr<const MappedFile> map(const Descriptor& file, const struct stat& status, const std::string& what) {
    if (status.st_size == 0) return std::make_shared<const MappedFile>(nullptr, 0);
    const auto size = static_cast<size_t>(status.st_size);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (data == MAP_FAILED) fail(ErrorKind::fail, "cannot map ", what, " (", size, " bytes): ", std::strerror(errno));
    try {
        return std::make_shared<const MappedFile>(static_cast<const std::byte*>(data), size);
    } catch (...) {
        ::munmap(data, size);
        throw;
    }
}

struct stat status_of(const Descriptor& file, const std::string& what) {
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) fail(ErrorKind::fail, "cannot examine ", what, ": ", std::strerror(errno));
    if (S_ISDIR(status.st_mode)) fail(ErrorKind::invalid_argument, what, " is a folder, not a file");
    if (!S_ISREG(status.st_mode)) fail(ErrorKind::invalid_argument, what, " is not a regular file");
    return status;
}

// One step of a model's path. `part` has no slash and is neither empty nor "." nor "..".
int open_part(int folder, const std::string& part, int flags, const std::string& what) {
    const int fd = ::openat(folder, part.c_str(), flags | O_NOFOLLOW);
    if (fd >= 0) return fd;
    const int error = errno;
    struct stat status {};
    if (::fstatat(folder, part.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode))
        fail(ErrorKind::invalid_argument, what, ": '", part,
             "' is a symbolic link, which is refused for safety: put the file itself into the model's folder");
    fail(ErrorKind::no_such_file, what, ": cannot open '", part, "': ", std::strerror(error),
         "; it holds weights and belongs into the model's folder");
}

}  // namespace

MappedFile::MappedFile(const std::byte* data, size_t size) : data_(data), size_(size) {
    if (!data_) return;
    const std::lock_guard lock(mappings().mutex);
    mappings().ends[data_] = data_ + size_;
}

MappedFile::~MappedFile() {
    if (!data_) return;
    {
        const std::lock_guard lock(mappings().mutex);
        mappings().ends.erase(data_);
    }
    // In steps: unmapping 100 MB takes some 10 ms, in which the address space is locked for the other threads, and on a
    // kernel without preemption nobody else gets this core.
    constexpr size_t kStep = size_t{1} << 20;
    for (size_t done = 0; done < size_; done += kStep) {
        ::munmap(const_cast<std::byte*>(data_) + done, std::min(kStep, size_ - done));
        give_way();
    }
}

void release_pages(const void* data, size_t bytes) {
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto start = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
    const auto end = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
    if (start >= end) return;
    const auto* first = static_cast<const std::byte*>(data);
    const std::lock_guard lock(mappings().mutex);
    auto found = mappings().ends.upper_bound(first);
    if (found == mappings().ends.begin()) return;
    if (first + bytes <= (--found)->second) ::madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
}

std::shared_ptr<const MappedFile> map_file(const std::filesystem::path& path) {
    const std::string what = "'" + path.string() + "'";
    Descriptor file(::open(path.c_str(), kFileFlags));
    if (file.get() < 0) fail(ErrorKind::no_such_file, "cannot open ", what, ": ", std::strerror(errno));
    return map(file, status_of(file, what), what);
}

std::shared_ptr<const MappedFile> map_beneath(const std::filesystem::path& folder, std::string_view location) {
    // A name from a model, made fit for a message.
    std::string what = "external data '" + std::string(location) + "'";
    for (char& c : what)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    const auto refuse = [&](const char* why) { fail(ErrorKind::invalid_argument, what, ": ", why); };
    if (location.empty()) refuse("the location is empty");
    if (location.find('\0') != std::string_view::npos) refuse("the location has a zero byte");
    if (location.front() == '/') refuse("the location must be relative to the model's folder");
    if (location.back() == '/') refuse("the location names a folder");

    Descriptor at(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (at.get() < 0)
        fail(ErrorKind::no_such_file, what, ": cannot open the model's folder '", folder.string(),
             "': ", std::strerror(errno));
    while (!location.empty()) {
        const size_t slash = location.find('/');
        const std::string part(location.substr(0, slash));
        const bool last = slash == std::string_view::npos;
        location = last ? std::string_view{} : location.substr(slash + 1);
        if (part == "..") refuse("the location must not contain '..'");
        if (part.empty() || part == ".") {
            if (last) refuse("the location names a folder");
            continue;
        }
        at.reset(open_part(at.get(), part, last ? kFileFlags : O_RDONLY | O_DIRECTORY | O_CLOEXEC, what));
    }
    const struct stat status = status_of(at, what);
    if (status.st_nlink > 1)
        refuse("the file has several hard links, which is refused for safety: put a copy into the model's folder");
    return map(at, status, what);
}

}  // namespace linnet
