#include "apps/cli/balance/costs.h"

#include <optional>

#include "apps/cli/balance/names.h"
#include "gimbal/balance/costs/cost_file.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

// Costs have one unit, so those of all streams are given or none.
std::vector<StreamCost> given_costs(const BalanceArguments& arguments,
                                    const std::vector<std::string>& streams) {
  std::vector<std::optional<StreamCost>> given(streams.size());
  for (const auto& [name, cost] : arguments.costs) {
    given[index_of("--cost", name, "stream", streams)] = cost;
  }
  std::vector<StreamCost> costs;
  for (std::size_t k = 0; k < streams.size(); ++k) {
    GIMBAL_USER_CHECK(given[k].has_value(), "--cost: give the cost of ", streams[k],
                      " as well; all streams need costs in the same unit");
    costs.push_back(*given[k]);
  }
  return costs;
}

}  // namespace

std::vector<StreamCost> resolve_costs(const BalanceArguments& arguments, const PackCaps& caps,
                                      const SampleSizes& sizes) {
  const std::vector<std::string> streams(sizes.names.begin(), sizes.names.end());
  if (!arguments.costs.empty()) return given_costs(arguments, streams);
  if (!arguments.costs_file.empty()) return read_cost_file(arguments.costs_file, streams);
  if (!arguments.model.empty()) return model_costs(arguments.model, streams);
  GIMBAL_USER_CHECK(caps.cost == 0,
                    "--cap-cost: needs to know what rows cost; give --cost NAME=PER_ROW for each "
                    "stream, --costs FILE or --model FOLDER");
  return default_costs(caps, sizes);
}

}  // namespace gimbal::cli
