#include "gimbal/balance/sizes.h"

#include "gimbal/base/error.h"

namespace gimbal {

double sample_cost(const SampleSizes& sizes, std::size_t sample,
                   std::span<const StreamCost> costs) {
  GIMBAL_CHECK_EQ(costs.size(), static_cast<std::size_t>(sizes.num_streams), "costs and streams");
  double cost = 0;
  for (int stream = 0; stream < sizes.num_streams; ++stream) {
    cost += stream_cost(sizes.at(sample, stream), costs[static_cast<std::size_t>(stream)]);
  }
  return cost;
}

}  // namespace gimbal
