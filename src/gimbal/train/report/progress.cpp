#include "gimbal/train/report/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <iostream>

namespace gimbal {
namespace {

std::string formatted(const char* format, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

std::size_t terminal_width() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return known ? static_cast<std::size_t>(size.ws_col) - 1 : 79;
}

}  // namespace

std::string format_count(std::uint64_t value) {
  std::string digits = std::to_string(value);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string format_duration(double seconds) {
  const auto total = static_cast<long long>(std::llround(seconds));
  std::array<char, 32> text{};
  if (total >= 3600) {
    std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", total / 3600, total / 60 % 60,
                  total % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lld:%02lld", total / 60, total % 60);
  }
  return text.data();
}

std::string format_quantity(double value) {
  constexpr std::array<const char*, 6> kUnits{"", "k", "M", "G", "T", "P"};
  std::size_t unit = 0;
  while (std::abs(value) >= 1000.0 && unit + 1 < kUnits.size()) {
    value /= 1000.0;
    ++unit;
  }
  return formatted("%.3g ", value) + kUnits[unit];
}

Progress::Progress(std::int64_t first_step, std::int64_t total_steps, std::int64_t every_steps)
    : first_step_(first_step),
      total_steps_(total_steps),
      every_steps_(every_steps),
      terminal_(isatty(STDERR_FILENO) != 0) {}

std::string Progress::line(const StepRecord& record) const {
  const auto steps = static_cast<double>(steps_);
  const auto done = static_cast<double>(record.step - first_step_);
  const double eta = total_seconds_ / done * static_cast<double>(total_steps_ - record.step);
  std::string text = "step " + std::to_string(record.step) + "/" + std::to_string(total_steps_);
  text += "  loss " + formatted("%.4f", loss_ / steps);
  text += "  lr " + formatted("%.2e", record.lr);
  text += "  norm " + formatted("%.3g", record.grad_norm);
  text += "  " + format_count(static_cast<std::uint64_t>(tokens_ / seconds_)) + " tok/s";
  if (images_ > 0)
    text += "  " + format_count(static_cast<std::uint64_t>(images_ / seconds_)) + " img/s";
  text += "  " + format_quantity(flops_ / seconds_) + "FLOP/s";
  text +=
      " (" + formatted("%.0f", 100.0 * flops_ / seconds_ / record.peak_flops) + "% of GEMM peak)";
  text += "  waste " + formatted("%.1f", 100.0 * waste_ / steps) + "%";
  text += "  data " + formatted("%.1f", 100.0 * data_wait_ / seconds_) + "%";
  return text + "  ETA " + format_duration(eta);
}

void Progress::add(const StepRecord& record) {
  ++steps_;
  loss_ += record.loss;
  seconds_ += record.seconds;
  total_seconds_ += record.seconds;
  tokens_ += static_cast<double>(record.tokens());
  images_ += static_cast<double>(record.media());
  flops_ += record.flops;
  waste_ += record.waste;
  data_wait_ += record.times.front().data_wait;
  const bool due =
      steps_ >= every_steps_ || record.step == total_steps_ || record.step == first_step_ + 1;
  const std::string text = line(record);
  if (due) {
    std::cerr << (terminal_ ? "\r\033[K" : "") + text + "\n" << std::flush;
    line_open_ = false;
  } else if (terminal_) {
    // A longer line would wrap, and the next one could not replace it.
    std::cerr << "\r\033[K" + text.substr(0, terminal_width()) << std::flush;
    line_open_ = true;
  }
  if (!due) return;
  steps_ = 0;
  loss_ = seconds_ = tokens_ = images_ = flops_ = waste_ = data_wait_ = 0;
}

void Progress::break_line() {
  if (line_open_) std::cerr << "\n" << std::flush;
  line_open_ = false;
}

}  // namespace gimbal
