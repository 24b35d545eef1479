// Ctrl-C and SIGTERM ask the trainer to save and leave.
#pragma once

#include <string>

namespace gimbal {

/// Installs the handlers for SIGINT, SIGTERM and SIGUSR1, but for those that this process was
/// started to ignore. A second SIGINT ends the process at once.
void install_stop_signals();

/// The signal that was received, or 0.
int stop_signal();

/// "SIGTERM". Of the signals above; others as "signal 9".
std::string signal_name(int number);

}  // namespace gimbal
