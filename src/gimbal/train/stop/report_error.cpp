#include "gimbal/train/stop/report_error.h"

#include <csignal>

#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/parallel/first_report.h"
#include "gimbal/parallel/launch.h"

namespace gimbal {
namespace {

/// torch's launcher sends SIGTERM to all ranks when one has ended. This one leaves by itself, with
/// its own exit code, as soon as it has spoken. Ignored, not blocked: another thread would take it.
class WithoutSigterm {
 public:
  WithoutSigterm() : before_(std::signal(SIGTERM, SIG_IGN)) {}
  ~WithoutSigterm() { std::signal(SIGTERM, before_); }
  WithoutSigterm(const WithoutSigterm&) = delete;
  WithoutSigterm& operator=(const WithoutSigterm&) = delete;

 private:
  void (*before_)(int);
};

}  // namespace

void report_error(const std::string& message) {
  const WithoutSigterm undisturbed;
  LaunchInfo launch;
  try {
    launch = read_launch_info();
  } catch (const UserError&) {
    // This may be the error in question: then there is no rank to name.
  }
  if (!is_first_to_report(launch, message)) return;
  // Also for errors that come before the run has set it.
  if (launch.rank > 0) init_log(LogLevel::kInfo, concat("[rank ", launch.rank, "]"));
  log_error(message);
}

}  // namespace gimbal
