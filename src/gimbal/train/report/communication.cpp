#include "gimbal/train/report/communication.h"

#include <algorithm>
#include <cstdio>

#include "gimbal/train/report/progress.h"

namespace gimbal {
namespace {

bool is_same_call(const CommTotal& a, const CommTotal& b) {
  return a.group == b.group && a.call == b.call;
}

/// Adds `factor` times the calls of `more`.
void add_calls(std::vector<CommTotal>& sums, const std::vector<CommTotal>& more, int factor) {
  for (const CommTotal& total : more) {
    auto sum = std::ranges::find_if(
        sums, [&total](const CommTotal& other) { return is_same_call(total, other); });
    if (sum == sums.end()) sum = sums.insert(sums.end(), CommTotal{total.group, total.call});
    sum->calls += factor * total.calls;
    sum->bytes += factor * total.bytes;
    sum->wait_seconds += factor * total.wait_seconds;
  }
}

}  // namespace

void StepCommunication::begin_step() { before_ = mesh_.totals(); }

void StepCommunication::end_step() {
  add_calls(totals_, mesh_.totals(), 1);
  add_calls(totals_, before_, -1);
  std::erase_if(totals_, [](const CommTotal& total) { return total.calls == 0; });
  ++num_steps_;
}

std::vector<CommunicationReport::Mean> CommunicationReport::means() const {
  std::vector<CommTotal> sums;
  for (const std::vector<CommTotal>& totals : ranks) add_calls(sums, totals, 1);
  std::vector<Mean> means;
  const auto count = static_cast<double>(ranks.size());
  for (const CommTotal& sum : sums) {
    means.push_back({sum.group, sum.call, static_cast<double>(sum.calls) / count,
                     static_cast<double>(sum.bytes) / count, sum.wait_seconds / count});
  }
  return means;
}

Json to_json(const std::vector<CommTotal>& totals) {
  Json list = Json::array();
  for (const CommTotal& total : totals) {
    list.push_back({{"axis", total.group},
                    {"call", total.call},
                    {"calls", total.calls},
                    {"bytes", total.bytes},
                    {"wait_seconds", total.wait_seconds}});
  }
  return list;
}

std::vector<CommTotal> comm_totals_from(const Json& json) {
  std::vector<CommTotal> totals;
  for (const Json& total : json) {
    totals.push_back({total.at("axis"), total.at("call"), total.at("calls").get<std::int64_t>(),
                      total.at("bytes").get<std::int64_t>(),
                      total.at("wait_seconds").get<double>()});
  }
  return totals;
}

Json to_json(const CommunicationReport& report) {
  Json means = Json::array();
  for (const CommunicationReport::Mean& mean : report.means()) {
    means.push_back({{"axis", mean.axis},
                     {"call", mean.call},
                     {"calls", mean.calls},
                     {"bytes", mean.bytes},
                     {"wait_seconds", mean.wait_seconds}});
  }
  Json ranks = Json::array();
  for (const std::vector<CommTotal>& totals : report.ranks) ranks.push_back(to_json(totals));
  return {{"kind", "communication"},
          {"step", report.step},
          {"steps", report.num_steps},
          {"mean", std::move(means)},
          {"ranks", std::move(ranks)}};
}

std::string to_text(const CommunicationReport& report) {
  std::string text = "communication of " +
                     format_count(static_cast<std::uint64_t>(report.num_steps)) +
                     (report.num_steps == 1 ? " step" : " steps") + ", mean of the ranks:";
  char line[160];
  std::snprintf(line, sizeof line, "\n  %-22s %-14s %10s %10s %11s %9s", "axis", "call", "calls",
                "MiB", "MiB a step", "s waited");
  text += line;
  for (const CommunicationReport::Mean& mean : report.means()) {
    const double mebi = mean.bytes / (1 << 20);
    std::snprintf(line, sizeof line, "\n  %-22s %-14s %10.0f %10.3f %11.3f %9.3f",
                  mean.axis.c_str(), mean.call.c_str(), mean.calls, mebi,
                  mebi / static_cast<double>(report.num_steps), mean.wait_seconds);
    text += line;
  }
  return text;
}

}  // namespace gimbal
