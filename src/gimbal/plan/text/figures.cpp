#include "gimbal/plan/text/figures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "gimbal/config/enums.h"

namespace gimbal {
namespace {

std::string printed(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

}  // namespace

std::string seconds_text(Seconds seconds) {
  if (seconds >= 3600) {
    const auto minutes = static_cast<std::int64_t>(std::llround(seconds / 60));
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "%lld h %02lld min",
                  static_cast<long long>(minutes / 60), static_cast<long long>(minutes % 60));
    return text.data();
  }
  if (seconds >= 100) return printed("%.0f s", seconds);
  if (seconds >= 10) return printed("%.1f s", seconds);
  if (seconds >= 1) return printed("%.2f s", seconds);
  if (seconds >= 0.1) return printed("%.0f ms", 1e3 * seconds);
  if (seconds >= 1e-3) return printed("%.1f ms", 1e3 * seconds);
  return printed("%.1f us", 1e6 * seconds);
}

std::string percent_text(double share) { return printed("%.1f %%", 100 * share); }

std::string count_text(std::uint64_t value) {
  std::string digits = std::to_string(value);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string aligned_rows(const std::vector<std::vector<std::string>>& rows, std::size_t num_left) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - row[i].size(), ' ');
      line += (i == 0 ? "" : "  ") + (i < num_left ? row[i] + blanks : blanks + row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string block_range(const Plan& plan, std::size_t begin, std::size_t end) {
  if (end <= begin) return "-";
  if (end == begin + 1) return plan.blocks[begin];
  return plan.blocks[begin] + " .. " + plan.blocks[end - 1];
}

std::string caps_text(const Plan& plan) {
  std::string text;
  for (std::size_t k = 0; k < plan.caps.size(); ++k) {
    if (plan.caps[k] == 0) continue;
    text += (text.empty() ? "" : ", ") + plan.streams[k] + " " + count_text(plan.caps[k]);
  }
  return text.empty() ? "none" : text;
}

std::string levels_text(const Plan& plan, std::size_t begin, std::size_t end) {
  std::string text;
  for (const auto& [level, name] : EnumNames<Recompute>::kNames) {
    const auto first = plan.layout.recompute.begin();
    const auto count = std::count(first + static_cast<std::ptrdiff_t>(begin),
                                  first + static_cast<std::ptrdiff_t>(end), level);
    if (count == 0) continue;
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + name;
  }
  return text.empty() ? "-" : text;
}

std::string choice_text(const Plan& plan) {
  return to_string(plan.mesh) + "; " + pipeline_name(plan.schedule.kind) + ", " +
         std::to_string(plan.micro_batches) +
         (plan.micro_batches == 1 ? " micro-batch; " : " micro-batches; ") + caps_text(plan);
}

std::string bound_name(const StepBound& bound) {
  const Seconds largest = std::max({bound.work, bound.critical_path, bound.memory, bound.fill});
  if (largest == bound.work) return "work";
  if (largest == bound.memory) return "memory";
  return largest == bound.critical_path ? "critical path" : "fill";
}

double bound_gap(const Prediction& prediction) {
  const Seconds bound = prediction.bound.seconds();
  const double gap = bound > 0 ? prediction.step.seconds / bound - 1 : 0;
  return std::abs(gap) < 1e-9 ? 0 : gap;  // equal but for rounding
}

}  // namespace gimbal
