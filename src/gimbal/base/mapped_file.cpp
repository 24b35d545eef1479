#include "gimbal/base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Closes on every way out; a mapping stays valid after its descriptor is closed.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  GIMBAL_USER_CHECK(file.fd >= 0, path.string(), ": cannot open: ", std::strerror(errno));
  struct stat status {};
  GIMBAL_USER_CHECK(::fstat(file.fd, &status) == 0, path.string(),
                    ": cannot read its size: ", std::strerror(errno));
  GIMBAL_USER_CHECK(S_ISREG(status.st_mode), path.string(), ": is not a file that can be mapped");
  if (status.st_size == 0) return;  // mmap refuses length 0
  size_ = static_cast<std::size_t>(status.st_size);
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd, 0);
  GIMBAL_USER_CHECK(address != MAP_FAILED, path.string(),
                    ": cannot map into memory: ", std::strerror(errno));
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      path_(std::move(other.path_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  // The old mapping goes with the temporary.
  MappedFile taken(std::move(other));
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  std::swap(path_, taken.path_);
  return *this;
}

void MappedFile::check_record_size(std::size_t record_bytes) const {
  GIMBAL_USER_CHECK(size_ % record_bytes == 0, path_.string(), ": has ", size_,
                    " bytes, which is no multiple of its record size ", record_bytes,
                    "; the file is damaged or incomplete, make it again");
}

}  // namespace gimbal
