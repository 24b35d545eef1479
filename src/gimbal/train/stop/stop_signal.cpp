#include "gimbal/train/stop/stop_signal.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <initializer_list>
#include <mutex>

namespace gimbal {
namespace {

// A signal handler can reach nothing but a global; it holds the one fact that a signal came.
volatile std::sig_atomic_t g_received = 0;

// What the handler says when it ends the process. It may neither wait nor allocate, so the text is
// ready: a new one goes where the current one is not.
struct LastWords {
  std::array<char, 8192> text;
  std::size_t size = 0;
};
std::array<LastWords, 2> g_last_words;
std::atomic<const LastWords*> g_current_words{nullptr};
static_assert(std::atomic<const LastWords*>::is_always_lock_free);

void on_signal(int number) {
  if (g_received != 0 && number == SIGINT) {
    if (const LastWords* words = g_current_words) {
      // Nobody is left to be told of a failure.
      [[maybe_unused]] const auto written = ::write(STDERR_FILENO, words->text.data(), words->size);
    }
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

void note_restart(const std::string& run_folder, std::int64_t step, bool needs_resume) {
  static std::mutex mutex;
  std::string text = ::isatty(STDERR_FILENO) == 1 ? "\n" : "";  // behind the line of progress
  text += "warning: a second signal ends the run at once; run the same command again ";
  text += needs_resume ? "with train.resume=true to " : "to ";
  text += step > 0 ? "go on after step " + std::to_string(step) + " of '" + run_folder + "'"
                   : "begin '" + run_folder + "' anew, which has no complete checkpoint yet";
  text += "\n";
  const std::lock_guard lock(mutex);
  LastWords& free = g_current_words == &g_last_words[0] ? g_last_words[1] : g_last_words[0];
  free.size = text.copy(free.text.data(), free.text.size());
  g_current_words = &free;
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
