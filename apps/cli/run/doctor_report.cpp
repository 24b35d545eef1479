#include "apps/cli/run/doctor_report.h"

#include <algorithm>
#include <iomanip>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

std::string rank_list(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (std::size_t i = 0; i < ranks.size(); ++i) text += concat(i == 0 ? "" : ", ", ranks[i]);
  return text;
}

/// "1 core", "2 cores", "2 processes".
std::string plural_text(std::size_t count, const std::string& word) {
  return concat(count, " ", word, count == 1 ? "" : word.ends_with('s') ? "es" : "s");
}

void add_column(std::ostream& out, const std::string& text, std::size_t width) {
  out << std::left << std::setw(static_cast<int>(width) + 2) << text;
}

std::string hosts_of(const std::vector<ExaminedRank>& ranks, const std::vector<int>& chosen) {
  std::string text;
  for (const int rank : chosen)
    text += concat(text.empty() ? "" : ", ", ranks[static_cast<std::size_t>(rank)].host);
  return text;
}

/// The names of what ranks have to have in common, in the order in which ranks first say them.
std::vector<std::string> common_names(const std::vector<ExaminedRank>& ranks) {
  std::vector<std::string> names;
  for (const ExaminedRank& facts : ranks) {
    for (const auto& [name, value] : facts.common) {
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

/// Nothing for a rank that does not have the item: it was started with other words.
std::optional<std::string> common_value(const ExaminedRank& facts, const std::string& name) {
  for (const auto& [own, value] : facts.common) {
    if (own == name) return value;
  }
  return std::nullopt;
}

/// Names the ranks that do not have the value that most have (of equally common ones, rank 0's).
void add_differences(const std::vector<ExaminedRank>& ranks, const std::string& name,
                     std::vector<std::string>& problems) {
  std::map<std::optional<std::string>, int> counts;
  for (const ExaminedRank& facts : ranks) ++counts[common_value(facts, name)];
  std::optional<std::string> usual = common_value(ranks[0], name);
  for (const auto& [value, count] : counts) {
    if (count > counts[usual]) usual = value;
  }
  std::vector<int> others, without;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const std::optional<std::string> own = common_value(ranks[rank], name);
    if (own != usual) (own ? others : without).push_back(static_cast<int>(rank));
  }
  const auto add = [&](const std::vector<int>& chosen, const std::string& what) {
    if (chosen.empty()) return;
    problems.push_back(concat(rank_list(chosen), " (", hosts_of(ranks, chosen), "): ", what));
  };
  add(others, usual ? concat("another ", name, " than the other ranks")
                    : concat("a ", name, ", which the other ranks do not have"));
  add(without, concat("no ", name, ", which the other ranks have"));
}

}  // namespace

Json to_json(const ExaminedRank& facts) {
  Json common = Json::array();
  for (const auto& [name, value] : facts.common) common.push_back({name, value});
  return {{"host", facts.host},   {"device", facts.device}, {"place", facts.place},
          {"cores", facts.cores}, {"common", common},       {"problems", facts.problems}};
}

ExaminedRank examined_rank_from(const Json& json) {
  ExaminedRank facts{json["host"].get<std::string>(),
                     json["device"].get<std::string>(),
                     json["place"].get<std::string>(),
                     json["cores"].get<std::vector<int>>(),
                     {},
                     json["problems"].get<std::vector<std::string>>()};
  for (const Json& item : json["common"])
    facts.common.emplace_back(item[0].get<std::string>(), item[1].get<std::string>());
  return facts;
}

std::vector<std::string> find_problems(const std::vector<ExaminedRank>& ranks) {
  // A problem that several ranks have is said once.
  std::map<std::string, std::vector<int>> ranks_of;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    for (const std::string& problem : ranks[rank].problems)
      ranks_of[problem].push_back(static_cast<int>(rank));
  }
  std::vector<std::string> problems;
  for (const auto& [problem, where] : ranks_of) {
    const bool everywhere = where.size() == ranks.size();
    problems.push_back(everywhere ? problem : rank_list(where) + ": " + problem);
  }
  for (const std::string& name : common_names(ranks)) add_differences(ranks, name, problems);
  return problems;
}

std::vector<std::string> find_link_problems(const std::vector<MeshLink>& links) {
  std::vector<std::string> problems;
  for (const MeshLink& link : links) {
    if (link.right) continue;
    problems.push_back(concat("the link ", link.axis, " of ", rank_list(link.ranks),
                              " delivers other values than were sent"));
  }
  return problems;
}

std::vector<std::string> find_warnings(const std::vector<ExaminedRank>& ranks) {
  // Ranks may be bound to cores of their own: those of a host are counted together.
  std::map<std::string, std::set<int>> cores;
  std::map<std::string, std::size_t> processes;
  for (const ExaminedRank& facts : ranks) {
    ++processes[facts.host];
    cores[facts.host].insert(facts.cores.begin(), facts.cores.end());
  }
  std::vector<std::string> warnings;
  for (const auto& [host, count] : processes) {
    const std::size_t available = cores[host].size();
    if (available == 0 || count <= available) continue;
    warnings.push_back(concat(count, " processes on ", plural_text(available, "core"), " of ", host,
                              ": they take turns. A run is slower than with ",
                              plural_text(available, "process"), ", and links seem slow."));
  }
  return warnings;
}

std::string describe_ranks(const std::vector<ExaminedRank>& ranks) {
  std::ostringstream out;
  std::size_t host = 4, device = 6;
  for (const ExaminedRank& facts : ranks) {
    host = std::max(host, facts.host.size());
    device = std::max(device, facts.device.size());
  }
  const auto column = [&](const std::string& text, std::size_t width) {
    add_column(out, text, width);
  };
  column("rank", 4);
  column("host", host);
  column("device", device);
  out << "place\n";
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    column(std::to_string(rank), 4);
    column(ranks[rank].host, host);
    column(ranks[rank].device, device);
    out << (ranks[rank].place.empty() ? "-" : ranks[rank].place) << "\n";
  }
  return out.str();
}

std::string describe_links(const std::vector<MeshLink>& links) {
  if (links.empty()) return "";
  std::ostringstream out;
  const auto column = [&](const std::string& text, std::size_t width) {
    add_column(out, text, width);
  };
  column("link", 10);
  column("latency", 10);
  column("speed", 12);
  column("through", 13);
  out << "ranks\n";
  for (const MeshLink& link : links) {
    column(link.axis, 10);
    std::ostringstream latency;
    latency << std::fixed << std::setprecision(1) << link.latency * 1e6 << " us";
    column(latency.str(), 10);
    column(bytes_text(link.bytes_per_second) + "/s", 12);
    column(link.transport, 13);
    out << rank_list(link.ranks).substr(link.ranks.size() == 1 ? 5 : 6)
        << (link.right ? "" : "  WRONG VALUES") << "\n";
  }
  return out.str();
}

std::string describe_outcome(std::size_t num_problems, std::size_t num_warnings) {
  if (num_problems + num_warnings == 0) return "All is well.";
  std::string text = num_problems == 0 ? "No problems" : plural_text(num_problems, "problem");
  if (num_warnings > 0) {
    text += (num_problems == 0 ? ", but " : " and ") + plural_text(num_warnings, "warning");
  }
  return text + "; see above.";
}

}  // namespace gimbal::cli
