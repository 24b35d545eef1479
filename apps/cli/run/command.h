// The commands that need libtorch. Their words were checked by the front end (apps/cli/commands),
// which calls this program.
#pragma once

#include <string>
#include <vector>

namespace gimbal::cli {

using Arguments = std::vector<std::string>;

int run_train(const Arguments& arguments);
int run_evaluate(const Arguments& arguments);
int run_generate(const Arguments& arguments);
int run_export(const Arguments& arguments);
int run_doctor(const Arguments& arguments);
int run_profile(const Arguments& arguments);

}  // namespace gimbal::cli
