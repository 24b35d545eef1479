#include "gimbal/balance/arrange/split.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {

std::vector<std::vector<std::uint32_t>> split_pack(std::span<const std::uint32_t> pack,
                                                   std::int64_t count, const SampleSizes& sizes,
                                                   std::span<const StreamCost> costs) {
  GIMBAL_CHECK(count >= 0, "a pack in ", count, " micro-batches");
  const std::size_t parts =
      count == 0 ? pack.size() : std::min(pack.size(), static_cast<std::size_t>(count));
  std::vector<double> sums{0.0};  // cost of the samples before
  for (const std::uint32_t sample : pack)
    sums.push_back(sums.back() + sample_cost(sizes, sample, costs));
  std::vector<std::vector<std::uint32_t>> out;
  std::size_t begin = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    // Ends where the sum is nearest to this part's share of the whole, and leaves a sample for each
    // part to come.
    const double goal = sums.back() * static_cast<double>(part + 1) / static_cast<double>(parts);
    const std::size_t last = pack.size() - (parts - part - 1);
    std::size_t end = begin + 1;
    while (end < last && sums[end + 1] - goal <= goal - sums[end]) ++end;
    if (part + 1 == parts) end = pack.size();
    out.emplace_back(pack.begin() + static_cast<std::ptrdiff_t>(begin),
                     pack.begin() + static_cast<std::ptrdiff_t>(end));
    begin = end;
  }
  return out;
}

}  // namespace gimbal
