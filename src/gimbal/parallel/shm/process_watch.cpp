#include "gimbal/parallel/shm/process_watch.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace gimbal {
namespace {

int open_process(pid_t process) {
#ifdef SYS_pidfd_open
  return static_cast<int>(syscall(SYS_pidfd_open, process, 0));
#else
  static_cast<void>(process);
  return -1;
#endif
}

}  // namespace

ProcessWatch::ProcessWatch(pid_t process) : process_(process), file_(open_process(process)) {}

ProcessWatch::ProcessWatch(ProcessWatch&& other) noexcept
    : process_(other.process_), file_(std::exchange(other.file_, -1)) {}

ProcessWatch::~ProcessWatch() {
  if (file_ >= 0) close(file_);
}

bool ProcessWatch::has_ended() const {
  if (file_ < 0) return kill(process_, 0) != 0 && errno == ESRCH;
  pollfd polled{file_, POLLIN, 0};
  return poll(&polled, 1, 0) > 0;
}

}  // namespace gimbal
