// Handing over to the programs beside this one: gimbal-run (libtorch) and the Python of the
// environment.
#pragma once

#include "apps/cli/command.h"

namespace gimbal::cli {

/// Remembers how this program was called, to find its neighbours. Call once, first thing in main.
void set_program_name(const char* argv0);

/// Becomes `python -m gimbal ARGUMENTS`. The Python is the one beside this program, or
/// $GIMBAL_PYTHON. Throws UserError when there is none.
[[noreturn]] void exec_python(const Arguments& arguments);

/// Becomes `gimbal-run ARGUMENTS`, in `num_processes` processes under gimbal.launch (torchrun) when
/// that is above 1 or when a failed job may be started again (`max_restarts` times). Throws
/// UserError when gimbal-run or Python is missing, or when this process is itself one of several
/// already.
[[noreturn]] void exec_run(const Arguments& arguments, int num_processes = 1, int max_restarts = 0);

/// Runs `python -m ARGUMENTS` (the module first) beside this program, waits for its end and returns
/// what it wrote to stdout; stderr and stdin are shared. Throws UserError when there is no Python
/// or it ends with exit code 2, InternalError when it fails otherwise; the child has said why.
std::string run_python(const Arguments& arguments);

/// The path under which a program that this one starts or becomes can read `content`. It vanishes
/// with the process.
std::string inherited_file(const std::string& content);

}  // namespace gimbal::cli
