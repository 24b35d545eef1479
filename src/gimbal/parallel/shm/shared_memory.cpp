#include "gimbal/parallel/shm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

SharedMemory SharedMemory::create(std::size_t num_bytes) {
  const int file = memfd_create("gimbal", MFD_CLOEXEC);
  if (file < 0) throw_errno("memfd_create");
  SharedMemory memory(file, num_bytes);
  if (ftruncate(file, static_cast<off_t>(num_bytes)) != 0) throw_errno("ftruncate");
  void* const data = mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (data == MAP_FAILED) throw_errno("mmap");
  memory.data_ = static_cast<std::byte*>(data);
  return memory;
}

SharedMemory SharedMemory::open(pid_t process, int other_file, std::size_t num_bytes) {
  const std::string path = concat("/proc/", process, "/fd/", other_file);
  const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) throw_errno(path);
  SharedMemory memory(file, num_bytes);
  struct stat status = {};
  if (fstat(file, &status) != 0) throw_errno(path);
  // A write behind the end would be a SIGBUS.
  if (static_cast<std::size_t>(status.st_size) != num_bytes) {
    throw std::runtime_error(concat(path, " has ", status.st_size, " bytes, not ", num_bytes,
                                    ": it is not that memory"));
  }
  void* const data = mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (data == MAP_FAILED) throw_errno("mmap");
  memory.data_ = static_cast<std::byte*>(data);
  return memory;
}

SharedMemory::SharedMemory(int file, std::size_t num_bytes) : file_(file), num_bytes_(num_bytes) {}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : file_(std::exchange(other.file_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      num_bytes_(other.num_bytes_) {}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) munmap(data_, num_bytes_);
  close_file();
}

void SharedMemory::close_file() {
  if (file_ >= 0) close(file_);
  file_ = -1;
}

}  // namespace gimbal
