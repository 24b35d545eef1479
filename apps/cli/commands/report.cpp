// gimbal report: Python parses the words, help included.
#include "apps/cli/command.h"
#include "apps/cli/process.h"

namespace gimbal::cli {

Command report_command() {
  return {"report", "Write one HTML page about a run", [](const Arguments& arguments) -> int {
            Arguments words = {"report"};
            words.insert(words.end(), arguments.begin(), arguments.end());
            exec_python(words);
          }};
}

}  // namespace gimbal::cli
