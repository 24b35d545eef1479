// A progress line on a terminal; nothing elsewhere.
#pragma once

#include <functional>
#include <string>

namespace gimbal::cli {

class Progress {
 public:
  /// `what`: "solving the patterns".
  explicit Progress(std::string what);
  /// Removes the line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Shows the share of the work that is done; always true (go on).
  std::function<bool(double)> callback();

 private:
  std::string what_;
  bool terminal_;
  int shown_ = -1;  // percent
};

}  // namespace gimbal::cli
