// gimbal inspect: Python parses the words, help included.
#include "apps/cli/command.h"
#include "apps/cli/process.h"

namespace gimbal::cli {

Command inspect_command() {
  return {"inspect", "Show what a dataset folder, a run or a checkpoint holds",
          [](const Arguments& arguments) -> int {
            Arguments words = {"inspect"};
            words.insert(words.end(), arguments.begin(), arguments.end());
            exec_python(words);
          }};
}

}  // namespace gimbal::cli
