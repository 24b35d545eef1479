#include "apps/cli/balance/progress.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

namespace gimbal::cli {

Progress::Progress(std::string what)
    : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (shown_ >= 0) std::cerr << "\r\033[K" << std::flush;
}

std::function<bool(double)> Progress::callback() {
  return [this](double share) {
    const int percent = static_cast<int>(std::clamp(share, 0.0, 1.0) * 100);
    if (terminal_ && percent != shown_) {
      shown_ = percent;
      std::cerr << "\r" << what_ << " " << percent << " %\033[K" << std::flush;
    }
    return true;
  };
}

}  // namespace gimbal::cli
