// Whether another process of this machine still runs.
#pragma once

#include <sys/types.h>

namespace gimbal {

/// Linux 5.3 and later know it at once; before, a process counts until its parent has taken notice
/// of its end. A halted process runs.
class ProcessWatch {
 public:
  explicit ProcessWatch(pid_t process);
  ProcessWatch(ProcessWatch&& other) noexcept;
  ProcessWatch& operator=(ProcessWatch&&) = delete;
  ~ProcessWatch();

  bool has_ended() const;
  pid_t process() const { return process_; }

 private:
  pid_t process_;
  int file_;  // pidfd; -1: the system has none
};

}  // namespace gimbal
