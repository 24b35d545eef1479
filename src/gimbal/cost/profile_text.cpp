#include "gimbal/cost/profile_text.h"

#include <algorithm>
#include <cstdio>
#include <vector>

#include "gimbal/base/byte_text.h"
#include "gimbal/config/recipe.h"

namespace gimbal {
namespace {

using TextRow = std::vector<std::string>;

std::string three_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

/// "1.5 ms".
std::string time_text(Seconds seconds) {
  if (seconds == 0) return "0";
  if (seconds < 1e-3) return three_digits(seconds * 1e6) + " us";
  if (seconds < 1) return three_digits(seconds * 1e3) + " ms";
  return three_digits(seconds) + " s";
}

/// "20 us + 1.5 ms + 3 us": constant, 1,000 rows, 1,000,000 pairs.
std::string line_text(const CostLine& line) {
  std::string text = time_text(line.per_row * 1e3);
  if (line.base > 0) text = time_text(line.base) + " + " + text;
  if (line.per_pair > 0) text += " + " + time_text(line.per_pair * 1e6);
  return text;
}

TextRow row_of(const std::string& name, const BlockCost& cost) {
  constexpr auto kKeep = static_cast<std::size_t>(Recompute::kKeep);
  constexpr auto kFull = static_cast<std::size_t>(Recompute::kFull);
  const CostLine& input = cost.backward_input;
  const CostLine& weight = cost.backward_weight;
  const CostLine backward{input.base + weight.base, input.per_row + weight.per_row,
                          input.per_pair + weight.per_pair};
  char residual[32];
  std::snprintf(residual, sizeof residual, "%.1f %%", 100 * cost.residual);
  return {name,
          line_text(cost.forward),
          line_text(backward),
          line_text(cost.recompute[kFull]),
          bytes_text(cost.saved[kKeep].per_row),
          bytes_text(cost.saved[kFull].per_row),
          residual};
}

std::string aligned(const std::vector<TextRow>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const TextRow& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const TextRow& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - row[i].size() + (i + 1 < row.size() ? 2 : 0), ' ');
      // Names to the left, figures to the right.
      text += i == 0 ? row[i] + space
                     : std::string(widths[i] - row[i].size(), ' ') + row[i] +
                           (i + 1 < row.size() ? "  " : "");
    }
    text += "\n";
  }
  return text;
}

std::string link_text(const std::string& name, const LinkCost& link) {
  if (link.bytes_per_second <= 0) return "";
  return name + " " + bytes_text(link.bytes_per_second) + "/s, latency " + time_text(link.latency) +
         "\n";
}

}  // namespace

std::string to_text(const ProfileTable& table) {
  std::string text =
      table.model_type + ", " + table.dtype + ", " + table.hardware + " (" + table.origin + ")\n";
  text += "times: constant + 1,000 rows + 1,000,000 pairs; kept bytes: of a row\n\n";
  std::vector<TextRow> rows{
      {"blocks", "forward", "backward", "recompute full", "kept", "kept at full", "fit error"}};
  for (const auto& [name, cost] : table.blocks) rows.push_back(row_of(name, cost));
  text += aligned(rows) + "\n";
  text += "optimizer " + time_text(table.optimizer_per_parameter * 1e6) +
          " for 1,000,000 parameters + " + time_text(table.step_overhead) + " a step\n";
  text += "device " + bytes_text(table.memory_bytes) + ", of these not ours " +
          bytes_text(table.reserved_bytes) + "; peak " + three_digits(table.peak_flops * 1e-9) +
          " GFLOP/s\n";
  text += link_text("link inside a node", table.links.inside_node);
  text += link_text("link between nodes", table.links.between_nodes);
  for (const std::string& note : table.notes) text += "- " + note + "\n";
  return text;
}

}  // namespace gimbal
