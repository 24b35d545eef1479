#include "gimbal/train/report_error.h"

#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/parallel/first_report.h"
#include "gimbal/parallel/launch.h"

namespace gimbal {

void report_error(const std::string& message) {
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
