#include "gimbal/train/report/transport_warnings.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

/// The ranks that say the same.
struct CommonTrouble {
  std::string text;
  std::vector<std::size_t> ranks;
  std::vector<std::string> hosts;  // each once
};

std::vector<CommonTrouble> group_troubles(const std::vector<RankTransport>& ranks) {
  std::vector<CommonTrouble> troubles;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const RankTransport& own = ranks[rank];
    if (own.trouble.empty()) continue;
    auto common = std::ranges::find(troubles, own.trouble, &CommonTrouble::text);
    if (common == troubles.end())
      common = troubles.insert(troubles.end(), CommonTrouble{own.trouble, {}, {}});
    common->ranks.push_back(rank);
    if (std::ranges::find(common->hosts, own.host) == common->hosts.end())
      common->hosts.push_back(own.host);
  }
  return troubles;
}

template <typename T>
std::string joined_items(const std::vector<T>& items) {
  std::string text;
  for (const T& item : items) text += concat(text.empty() ? "" : ", ", item);
  return text;
}

}  // namespace

std::vector<std::string> transport_warnings(const std::vector<RankTransport>& ranks) {
  std::vector<std::string> warnings;
  for (const CommonTrouble& trouble : group_troubles(ranks)) {
    warnings.push_back(concat(
        "TCP instead of shared memory carries messages of ",
        trouble.ranks.size() == 1 ? "rank " : "ranks ", joined_items(trouble.ranks), " (",
        joined_items(trouble.hosts), "), which takes longer. Reason: ", trouble.text,
        ". Start the ranks of a machine as one user in one container, with limits of memory, "
        "file size and open files that leave room, or set GIMBAL_TRANSPORT=tcp if TCP will "
        "do."));
  }
  return warnings;
}

}  // namespace gimbal
