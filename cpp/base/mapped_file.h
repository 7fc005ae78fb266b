// Read-only views of files.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

namespace linnet {

// The bytes of a regular file, mapped until the object dies. Whoever shortens the file meanwhile takes the pages away
// from under the view, as with every mapping: replace a model by renaming a new file over it.
class MappedFile {
  public:
    MappedFile(const std::byte* data, size_t size);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

  private:
    const std::byte* data_;  // null when empty
    size_t size_;
};

// Maps the file that the caller names (links are followed: the caller chose the path). Throws no_such_file when it
// cannot be opened, invalid_argument when it is not a regular file.
std::shared_ptr<const MappedFile> map_file(const std::filesystem::path& path);

// Maps a file that a model names, so that nothing outside `folder` can be reached: `location` must be relative and
// without "..", no part of it may be a symbolic link, and the file must be regular with one name only (a hard link
// could be a file from elsewhere). Throws invalid_argument for a location that is refused, no_such_file when there is
// none.
std::shared_ptr<const MappedFile> map_beneath(const std::filesystem::path& folder, std::string_view location);

// Bytes that are not needed for a while: where they lie in a mapped file, their whole pages go back to the system, and
// a later access reads them again from the file. Does nothing for other memory.
void release_pages(const void* data, size_t bytes);

}  // namespace linnet
