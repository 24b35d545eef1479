#include "gimbal/train/stop_signal.h"

#include <csignal>
#include <initializer_list>

namespace gimbal {
namespace {

// A signal handler can reach nothing but a global; it holds the one fact that a signal came.
volatile std::sig_atomic_t g_received = 0;

void on_signal(int number) {
  if (g_received != 0 && number == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
  }
  g_received = number;
}

}  // namespace

void install_stop_signals() {
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) {
    // A shell has its background jobs ignore SIGINT: it is meant for another program.
    if (std::signal(number, on_signal) == SIG_IGN) std::signal(number, SIG_IGN);
  }
}

int stop_signal() { return static_cast<int>(g_received); }

std::string signal_name(int number) {
  switch (number) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return "signal " + std::to_string(number);
  }
}

}  // namespace gimbal
