// Ctrl-C and SIGTERM ask the trainer to save and leave.
#pragma once

namespace gimbal {

/// Installs the handlers for SIGINT, SIGTERM and SIGUSR1. A second SIGINT ends the process at once.
void install_stop_signals();

/// The signal that was received, or 0.
int stop_signal();

}  // namespace gimbal
