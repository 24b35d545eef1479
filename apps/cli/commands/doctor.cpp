// gimbal doctor: gimbal-run looks at the machine.
#include "apps/cli/command.h"
#include "apps/cli/process.h"

namespace gimbal::cli {
namespace {

int run_doctor(const Arguments& arguments) {
  CLI::App app("Check this machine: libtorch, devices, speed of matrix products.", "gimbal doctor");
  bool json = false;
  app.add_flag("--json", json, "Print JSON");
  app.footer("Example:\n  gimbal doctor --json\n");
  parse(app, arguments);
  exec_run(json ? Arguments{"doctor", "--json"} : Arguments{"doctor"});
}

}  // namespace

Command doctor_command() {
  return {"doctor", "Check this machine and the installation", run_doctor};
}

}  // namespace gimbal::cli
