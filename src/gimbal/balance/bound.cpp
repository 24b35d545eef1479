// The lower bound on the number of packs, from dual feasible functions: each of them maps row
// counts to shares of a pack such that the shares of any samples that fit together add up to at
// most 1 (Fekete and Schepers 2001, function u^(k)).
#include <algorithm>

#include "gimbal/balance/pack.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

__extension__ using Wide = unsigned __int128;

// k = 1 counts the samples that pairwise cannot share a pack, k = 2 those of which no three can,
// and so on.
constexpr std::uint64_t kMaxShare = 24;

std::uint64_t divide_up(Wide a, Wide b) { return static_cast<std::uint64_t>((a + b - 1) / b); }

// Sum over the samples of u^(k)(rows / cap), rounded up.
std::uint64_t share_bound(const SampleSizes& sizes, int stream, std::uint64_t cap, std::uint64_t k,
                          std::span<const std::uint32_t> order) {
  std::uint64_t shares = 0;  // in units of 1 / k
  std::uint64_t rows = 0;    // in units of 1 / cap
  for (const std::uint32_t sample : order) {
    const std::uint64_t n = sizes.at(sample, stream);
    const std::uint64_t scaled = (k + 1) * n;
    if (scaled % cap == 0) {
      rows += n;
    } else {
      shares += scaled / cap;
    }
  }
  return divide_up(Wide(shares) * cap + Wide(rows) * k, Wide(k) * cap);
}

}  // namespace

std::uint64_t packs_lower_bound(const SampleSizes& sizes, const PackCaps& caps,
                                std::span<const std::uint32_t> order) {
  if (order.empty()) return 0;
  std::uint64_t bound = 1;
  if (caps.samples > 0) bound = std::max(bound, divide_up(order.size(), caps.samples));
  for (int stream = 0; stream < sizes.num_streams; ++stream) {
    const std::uint64_t cap = static_cast<std::size_t>(stream) < caps.rows.size()
                                  ? caps.rows[static_cast<std::size_t>(stream)]
                                  : 0;
    if (cap == 0) continue;
    std::uint64_t rows = 0;
    for (const std::uint32_t sample : order) rows += sizes.at(sample, stream);
    bound = std::max(bound, divide_up(rows, cap));
    for (std::uint64_t k = 1; k <= kMaxShare; ++k) {
      bound = std::max(bound, share_bound(sizes, stream, cap, k, order));
    }
  }
  return bound;
}

}  // namespace gimbal
