#include "gimbal/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const char* what, int error) {
  throw FileError(concat(path.string(), ": ", what, ": ", std::strerror(error)), error);
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void sync_path(const fs::path& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) fail(path, "cannot open to sync", errno);
  // EINVAL and EROFS: the file system has nothing to sync here.
  const int error = ::fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
  ::close(fd);
  if (error != 0) fail(path, "cannot write to the disk", error);
}

// Swaps two names in one step where the file system can; false where it cannot.
bool exchange_names(const fs::path& a, const fs::path& b) {
  return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
}

// Closes on every way out.
struct ReadDescriptor {
  int fd;
  ~ReadDescriptor() {
    if (fd >= 0) ::close(fd);
  }
};

// Fixed names, so that what a killed process has left is found.
fs::path partial_path(const fs::path& final_path) { return final_path.string() + ".partial"; }
fs::path replaced_path(const fs::path& final_path) {
  return final_path.string() + ".partial.replaced";
}

bool is_present(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) return false;
  if (error) fail(path, "cannot look for it", error.value());
  return true;
}

}  // namespace

std::string read_file(const fs::path& path) {
  std::string content;
  read_blocks(path, [&](const char* data, std::size_t size) { content.append(data, size); });
  return content;
}

void read_blocks(const fs::path& path,
                 const std::function<void(const char* data, std::size_t size_bytes)>& use) {
  const ReadDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) fail(path, "cannot read", errno);
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(file.fd, buffer, sizeof(buffer));
    if (count == 0) return;
    if (count > 0) {
      use(buffer, static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      fail(path, "cannot read", errno);
    }
  }
}

void write_file_atomic(const fs::path& path, std::string_view content) {
  static std::atomic<unsigned> counter{0};
  const fs::path temporary = concat(path.string(), ".tmp.", ::getpid(), ".", counter++);
  try {
    OutputFile file(temporary);
    file.write(content.data(), content.size());
    file.close();
    if (::rename(temporary.c_str(), path.c_str()) != 0) fail(path, "cannot replace", errno);
    sync_path(folder_of(path), O_RDONLY | O_DIRECTORY);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void sync_file(const fs::path& path) { sync_path(path, O_RDONLY); }

OutputFile::OutputFile(const fs::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(path, "cannot create", errno);
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(const void* data, std::size_t size_bytes) {
  GIMBAL_CHECK(fd_ >= 0, "write after close: ", path_.string());
  const char* at = static_cast<const char*>(data);
  while (size_bytes > 0) {
    const ssize_t count = ::write(fd_, at, size_bytes);
    if (count < 0) {
      if (errno == EINTR) continue;
      fail(path_, "cannot write", errno);
    }
    at += count;
    size_bytes -= static_cast<std::size_t>(count);
  }
}

void OutputFile::write_at(std::size_t offset, const void* data, std::size_t size_bytes) {
  GIMBAL_CHECK(fd_ >= 0, "write after close: ", path_.string());
  const char* at = static_cast<const char*>(data);
  while (size_bytes > 0) {
    const ssize_t count = ::pwrite(fd_, at, size_bytes, static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      fail(path_, "cannot write", errno);
    }
    at += count;
    offset += static_cast<std::size_t>(count);
    size_bytes -= static_cast<std::size_t>(count);
  }
}

void OutputFile::close() {
  if (fd_ < 0) return;
  // Pipes and devices such as /dev/null cannot be synced and answer EINVAL.
  int error = ::fsync(fd_) == 0 || errno == EINVAL ? 0 : errno;
  if (::close(std::exchange(fd_, -1)) != 0 && error == 0) error = errno;
  if (error != 0) fail(path_, "cannot write to the disk", error);
}

AtomicFolder::AtomicFolder(fs::path final_path) : final_(std::move(final_path)) {
  if (!final_.has_filename()) final_ = final_.parent_path();  // "run/" -> "run"
  GIMBAL_CHECK(!final_.empty(), "a folder without a name");
  temporary_ = partial_path(final_);
  clear_leftovers(final_);
  make_folders(temporary_);
}

void AtomicFolder::clear_leftovers(const fs::path& final_path) {
  const fs::path old = replaced_path(final_path);
  // The process was killed between the two renames of commit().
  if (!is_present(final_path) && is_present(old) &&
      ::rename(old.c_str(), final_path.c_str()) != 0) {
    fail(old, "cannot put back", errno);
  }
  for (const fs::path& leftover : {partial_path(final_path), old}) {
    std::error_code error;
    fs::remove_all(leftover, error);
    if (error) fail(leftover, "cannot remove the unfinished folder", error.value());
  }
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;  // a destructor cannot report; the next run removes the folder
  fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  GIMBAL_CHECK(!committed_, "committed twice: ", final_.string());
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) sync_path(entry.path(), O_RDONLY | O_DIRECTORY);
    if (entry.is_regular_file()) sync_path(entry.path(), O_RDONLY);
  }
  sync_path(temporary_, O_RDONLY | O_DIRECTORY);
  std::error_code error;
  if (!is_present(final_)) {
    if (::rename(temporary_.c_str(), final_.c_str()) != 0) fail(final_, "cannot rename", errno);
  } else if (exchange_names(temporary_, final_)) {
    fs::remove_all(temporary_, error);
  } else {
    const fs::path old = replaced_path(final_);
    fs::remove_all(old, error);
    if (::rename(final_.c_str(), old.c_str()) != 0) fail(final_, "cannot replace", errno);
    if (::rename(temporary_.c_str(), final_.c_str()) != 0) {
      const int reason = errno;
      if (::rename(old.c_str(), final_.c_str()) != 0) fail(old, "cannot put back", errno);
      fail(final_, "cannot replace", reason);
    }
    fs::remove_all(old, error);
  }
  committed_ = true;
  if (error) fail(final_, "cannot remove its former content", error.value());
  sync_path(folder_of(final_), O_RDONLY | O_DIRECTORY);
}

void make_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail(path, "cannot make the folder", error.value());
  // create_directories succeeds on some systems when a file is in the way.
  if (!fs::is_directory(path)) fail(path, "cannot make the folder", ENOTDIR);
}

}  // namespace gimbal
