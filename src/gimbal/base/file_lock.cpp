#include "gimbal/base/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "gimbal/base/error.h"

namespace gimbal {

FileLock::FileLock(const std::filesystem::path& path, const std::string& what)
    : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
  GIMBAL_USER_CHECK(fd_ >= 0, "cannot write '", path.string(), "': ", std::strerror(errno));
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int reason = errno;
  ::close(fd_);
  // File systems without locks (some network ones) cannot protect; they must not forbid the run
  // either.
  fd_ = -1;
  GIMBAL_USER_CHECK(reason != EWOULDBLOCK, what, " is in use by another process ('", path.string(),
                    "' is locked). Wait for it, or choose another folder.");
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace gimbal
