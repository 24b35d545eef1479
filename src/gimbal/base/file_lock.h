// A lock that one process holds on a file until it ends or lets go.
#pragma once

#include <filesystem>
#include <string>

namespace gimbal {

class FileLock {
 public:
  /// Makes the file if need be. Throws UserError when another process holds the lock; `what` says
  /// what it protects.
  FileLock(const std::filesystem::path& path, const std::string& what);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace gimbal
