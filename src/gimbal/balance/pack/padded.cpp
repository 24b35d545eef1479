// The mini-batches that are made without packing: a number of samples each, padded to the longest.
#include <algorithm>
#include <numeric>

#include "gimbal/balance/pack/methods.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kGroupsPerMegaBatch = 50;

void check_group_size(std::uint64_t group_size, const char* method) {
  GIMBAL_USER_CHECK(group_size > 0, "balance: method ", method,
                    " makes groups of a fixed number of samples; set their number to at least 1 "
                    "(balance.samples_per_pack in a recipe, --samples-per-pack on the command "
                    "line)");
}

// Ends of groups of `group_size`; the last may be smaller.
void cut_groups(Packs& packs, std::uint64_t group_size) {
  const std::uint64_t count = packs.samples.size();
  for (std::uint64_t end = 0; end < count;) {
    end = group_size < count - end ? end + group_size : count;
    packs.offsets.push_back(end);
  }
}

}  // namespace

Packs random_packs(std::span<const std::uint32_t> order, std::uint64_t group_size) {
  check_group_size(group_size, "random");
  Packs packs;
  packs.samples.assign(order.begin(), order.end());
  cut_groups(packs, group_size);
  return packs;
}

Packs length_packs(const SampleSizes& sizes, int stream, std::span<const std::uint32_t> order,
                   std::uint64_t group_size) {
  check_group_size(group_size, "length");
  GIMBAL_CHECK(stream >= 0 && stream < sizes.num_streams, "stream ", stream);
  Packs packs;
  packs.samples.assign(order.begin(), order.end());
  const std::uint64_t count = order.size();
  const std::uint64_t mega =
      group_size < count ? std::min(group_size * kGroupsPerMegaBatch, count) : count;
  for (std::uint64_t begin = 0; begin < count; begin += mega) {
    const auto first = packs.samples.begin() + static_cast<std::ptrdiff_t>(begin);
    const auto last =
        packs.samples.begin() + static_cast<std::ptrdiff_t>(std::min(begin + mega, count));
    std::stable_sort(first, last, [&](std::uint32_t x, std::uint32_t y) {
      return sizes.at(x, stream) > sizes.at(y, stream);
    });
  }
  cut_groups(packs, group_size);
  return packs;
}

}  // namespace gimbal
