// Ctrl-C and SIGTERM ask the trainer to save and leave.
#pragma once

#include <cstdint>
#include <string>

namespace gimbal {

/// Installs the handlers for SIGINT, SIGTERM and SIGUSR1, but for those that this process was
/// started to ignore. A second SIGINT ends the process at once; it then says what note_restart()
/// was told last, if anything.
void install_stop_signals();

/// From where a new start goes on: after `step`, whose checkpoint in `run_folder` is complete; 0:
/// there is none. `needs_resume`: the recipe has train.resume=false, with which the same command is
/// refused. From any thread.
void note_restart(const std::string& run_folder, std::int64_t step, bool needs_resume);

/// The signal that was received, or 0.
int stop_signal();

/// "SIGTERM". Of the signals above; others as "signal 9".
std::string signal_name(int number);

}  // namespace gimbal
