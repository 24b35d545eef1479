// gimbal generate: Python parses the words, help included.
#include "apps/cli/command.h"
#include "apps/cli/process.h"

namespace gimbal::cli {

Command generate_command() {
  return {"generate", "Answer a prompt with a trained model",
          [](const Arguments& arguments) -> int {
            Arguments words = {"generate"};
            words.insert(words.end(), arguments.begin(), arguments.end());
            exec_python(words);
          }};
}

}  // namespace gimbal::cli
