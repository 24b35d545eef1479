#include "apps/cli/balance/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

using Row = std::vector<std::string>;

std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

// 40,941
std::string number(std::uint64_t value) {
  std::string digits = std::to_string(value);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string percent(double share) { return formatted("%.2f %%", 100 * share); }

std::string seconds(double value) { return formatted(value < 10 ? "%.2f s" : "%.1f s", value); }

// The characters that a terminal shows, of UTF-8.
std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

// The first column is aligned to the left, the others to the right.
std::string aligned(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - width(row[i]), ' ');
      text += i == 0 ? row[i] + (row.size() > 1 ? blanks : "") : "  " + blanks + row[i];
    }
    text += "\n";
  }
  return text;
}

std::string caps_text(const BalanceSetup& setup) {
  std::string text;
  const auto add = [&text](const std::string& name, const std::string& value) {
    text += (text.empty() ? "" : ", ") + name + " " + value;
  };
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    const std::uint64_t cap = setup.options.caps.of(static_cast<int>(k));
    const bool chosen = setup.chosen_cap && setup.chosen_cap->stream == static_cast<int>(k);
    if (cap > 0) add(setup.table.streams[k], number(cap) + (chosen ? " (chosen)" : ""));
  }
  if (setup.options.caps.samples > 0) add("samples", number(setup.options.caps.samples));
  if (setup.options.caps.cost > 0) add("cost", formatted("%.6g", setup.options.caps.cost));
  return text;
}

// A row per figure, a column per stream and one for the cost.
std::string stream_rows(const BalanceSetup& setup, const BalanceReport& report) {
  Row head{""}, fill{"fill"}, waste{"waste"};
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    head.push_back(setup.table.streams[k]);
    fill.push_back(setup.options.caps.of(static_cast<int>(k)) > 0 ? percent(report.fill[k]) : "-");
    waste.push_back(percent(report.waste[k]));
  }
  head.emplace_back("cost");
  fill.emplace_back("");
  waste.push_back(percent(report.cost_waste));
  return aligned({head, fill, waste});
}

// 10,300 (lp)
std::string bound_text(const BalanceResult& result) {
  if (!result.bound()) return "-";
  const bool stopped = result.lp_bound && !result.lp_bound->complete();
  return number(*result.bound()) + " (" + result.bound_name() +
         (stopped ? ", the LP was stopped early" : "") + ")";
}

std::string packs_text(const BalanceResult& result, const MethodResult& method) {
  std::string text = number(method.report.packs) + ", lower bound ";
  if (is_padded(method.method)) return text + "-, caps do not apply to this method";
  text += bound_text(result);
  const auto gap = result.gap(method);
  return gap ? text + ", gap " + percent(*gap) : text;
}

std::string samples_text(const BalanceReport& report, std::size_t alone) {
  std::string text = "in " + number(report.samples_in) + ", packed " +
                     number(report.samples_packed) + ", rejected " +
                     number(report.samples_rejected);
  if (alone > 0) text += ", above a cap and alone in a pack " + number(alone);
  return text;
}

std::string time_text(const BalanceResult& result, const BalanceTimes& times) {
  std::string text = "reading " + seconds(times.read);
  if (times.caps > 0) text += ", cap " + seconds(times.caps);
  if (result.patterns) {
    text += (result.patterns_loaded ? ", loading patterns " : ", patterns ") +
            seconds(result.pattern_seconds);
  }
  if (result.lp_bound) text += ", bound " + seconds(result.bound_seconds);
  return text + ", packing " + seconds(result.chosen().report.seconds) + ", total " +
         seconds(times.total);
}

Row compare_head(const BalanceSetup& setup) {
  Row head{"method", "packs", "gap"};
  for (const std::string& name : setup.table.streams) head.push_back("fill " + name);
  head.emplace_back("pad ratio");
  for (const std::string& name : setup.table.streams) head.push_back("dist " + name);
  for (const std::string& name : setup.table.streams) head.push_back("waste " + name);
  head.insert(head.end(), {"waste cost", "order corr.", "source mix", "seconds"});
  return head;
}

Row compare_row(const BalanceSetup& setup, const BalanceResult& result,
                const MethodResult& method) {
  const BalanceReport& report = method.report;
  const auto gap = result.gap(method);
  Row row{method_name(method.method), number(report.packs), gap ? percent(*gap) : "-"};
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    const bool capped = setup.options.caps.of(static_cast<int>(k)) > 0;
    row.push_back(capped ? percent(report.fill[k]) : "-");
  }
  row.push_back(formatted("%.4f", report.pad_ratio));
  for (const double ratio : report.dist_ratio) row.push_back(formatted("%.4f", ratio));
  for (const double waste : report.waste) row.push_back(percent(waste));
  row.push_back(percent(report.cost_waste));
  row.push_back(formatted("%.3f", report.order_correlation));
  row.push_back(formatted("%.2f", report.source_mix_ratio));
  row.push_back(formatted("%.2f", report.seconds));
  return row;
}

// Methods as columns: that stays narrow with many streams.
std::string compare_text(const BalanceSetup& setup, const BalanceResult& result) {
  std::vector<Row> columns{compare_head(setup)};
  for (const MethodResult& method : result.methods) {
    columns.push_back(compare_row(setup, result, method));
  }
  std::vector<Row> rows(columns.front().size());
  for (const Row& column : columns) {
    GIMBAL_CHECK_EQ(column.size(), rows.size(), "figures of a method");
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].push_back(column[i]);
  }
  std::string text = aligned(rows);
  text += "lower bound of the methods that keep to the caps: " + bound_text(result) + "\n";
  for (const MethodResult& method : result.methods) {
    if (!is_padded(method.method)) continue;
    text += method_name(method.method) + ": mini-batches of " + number(method.samples_per_group) +
            " samples, padded to the longest in " +
            setup.table.streams[static_cast<std::size_t>(setup.options.length_stream)] +
            "; the caps do not apply\n";
  }
  return text;
}

}  // namespace

std::string balance_table(const BalanceArguments& arguments, const BalanceSetup& setup,
                          const BalanceResult& result, const BalanceTimes& times) {
  const MethodResult& chosen = result.chosen();
  const BalanceReport& report = chosen.report;
  const std::size_t sources = setup.table.source_names.size();
  std::string text = method_name(chosen.method) + ", caps: " + caps_text(setup) + "; " +
                     number(arguments.ranks) + (arguments.ranks == 1 ? " rank" : " ranks");
  if (arguments.accumulate > 1) text += " x " + number(arguments.accumulate) + " packs";
  text += "; " + number(sources) + (sources == 1 ? " source" : " sources");
  text += "; seed " + number(arguments.seed) + ", epoch " + number(arguments.epoch) + "\n";
  text +=
      aligned({{"packs    " + packs_text(result, chosen)},
               {"samples  " + samples_text(report, chosen.sampler->screening().oversize.size())},
               {"slots    " + number(report.slots) + " in " + number(report.steps) +
                " steps; order correlation " + formatted("%.3f", report.order_correlation) +
                ", source mix " + formatted("%.2f", report.source_mix_ratio)},
               {"time     " + time_text(result, times)}});
  text += stream_rows(setup, report);
  if (arguments.compare) text += "\n" + compare_text(setup, result);
  return text;
}

}  // namespace gimbal::cli
