// Runs a named function in several processes: the test program starts itself again.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace gimbal::testing_workers {

/// What a worker runs. It reads the launch variables; what it writes to stdout is its result.
using WorkerMain = std::function<void()>;

/// All workers by name; filled by Worker objects at namespace scope.
std::map<std::string, WorkerMain>& registry();

struct Worker {
  Worker(const std::string& name, WorkerMain run) { registry()[name] = std::move(run); }
};

struct WorkerResult {
  int exit_code = -1;  // 0; 1 after a CommError; 2 after a UserError; 3 after another; -1: killed
                       // at the deadline
  std::string output;  // stdout, and the message of an error
};

/// A port of the loopback interface that was free a moment ago.
int free_port();

using Variables = std::map<std::string, std::string>;

/// Starts ranks 0 .. size-1 as torchrun would, except those in `absent`, and waits for them.
std::vector<WorkerResult> run_workers(const std::string& name, int size,
                                      const Variables& variables = {},
                                      const std::vector<int>& absent = {});

/// Runs the worker that the command line names, if it names one; the exit code is in `exit_code`.
bool run_as_worker(int argc, char** argv, int& exit_code);

}  // namespace gimbal::testing_workers
