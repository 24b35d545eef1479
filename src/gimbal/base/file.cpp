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
  throw UserError(concat(path.string(), ": ", what, ": ", std::strerror(error)));
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

}  // namespace

std::string read_file(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(path, "cannot read", errno);
  std::string content;
  struct stat status {};
  if (::fstat(fd, &status) == 0 && status.st_size > 0) {
    content.reserve(static_cast<std::size_t>(status.st_size));
  }
  char buffer[1 << 16];
  while (true) {
    const ssize_t count = ::read(fd, buffer, sizeof(buffer));
    if (count > 0) {
      content.append(buffer, static_cast<std::size_t>(count));
    } else if (count == 0) {
      break;
    } else if (errno != EINTR) {
      const int error = errno;
      ::close(fd);
      fail(path, "cannot read", error);
    }
  }
  ::close(fd);
  return content;
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
  // A fixed name, so that what a killed process has left is found and removed.
  temporary_ = final_.string() + ".partial";
  std::error_code error;
  fs::remove_all(temporary_, error);
  if (error) fail(temporary_, "cannot remove the unfinished folder", error.value());
  make_folders(temporary_);
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
  if (!fs::exists(fs::symlink_status(final_))) {
    if (::rename(temporary_.c_str(), final_.c_str()) != 0) fail(final_, "cannot rename", errno);
  } else if (exchange_names(temporary_, final_)) {
    fs::remove_all(temporary_, error);
  } else {
    const fs::path old = final_.string() + ".partial.replaced";
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
