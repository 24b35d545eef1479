#include "gimbal/balance/sizes.h"

#include "gimbal/base/error.h"

namespace gimbal {

std::string SampleSizes::stream_label(int stream) const {
  return static_cast<std::size_t>(stream) < names.size() ? names[static_cast<std::size_t>(stream)]
                                                         : concat("stream ", stream);
}

double sample_cost(const SampleSizes& sizes, std::size_t sample,
                   std::span<const StreamCost> costs) {
  GIMBAL_CHECK_EQ(costs.size(), static_cast<std::size_t>(sizes.num_streams), "costs and streams");
  double cost = 0;
  for (int stream = 0; stream < sizes.num_streams; ++stream) {
    cost += stream_cost(sizes, sample, stream, costs[static_cast<std::size_t>(stream)]);
  }
  return cost;
}

}  // namespace gimbal
