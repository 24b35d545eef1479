// Memory that processes of one machine share.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace gimbal {

/// Anonymous (memfd): no name that outlives a killed process, no limit of /dev/shm. Zeros at first;
/// pages come into being when they are written. Linux only. Errors are
/// std::runtime_error.
class SharedMemory {
 public:
  static SharedMemory create(std::size_t num_bytes);
  /// That of another process, or of this one: `file` as its file() says. Needs the same process
  /// namespace and the rights to look into that process; it must not have closed the file yet.
  static SharedMemory open(pid_t process, int file, std::size_t num_bytes);

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&&) = delete;
  ~SharedMemory();

  std::byte* data() const { return data_; }
  std::size_t size() const { return num_bytes_; }
  /// For open(), until close_file().
  int file() const { return file_; }
  /// The memory stays.
  void close_file();

 private:
  SharedMemory(int file, std::size_t num_bytes);

  int file_;
  std::byte* data_ = nullptr;
  std::size_t num_bytes_;
};

}  // namespace gimbal
