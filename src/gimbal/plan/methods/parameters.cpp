// Equal parameter counts: what pipelines are cut by when nothing has been measured.
#include "gimbal/plan/methods.h"
#include "gimbal/plan/methods/linear_partition.h"

namespace gimbal {

StageLayout cut_by_parameters(const CutProblem& problem) {
  check_enough_blocks(problem);
  std::vector<double> weights;
  for (const BlockDesc& block : problem.costs->model().blocks) {
    weights.push_back(static_cast<double>(block.num_parameters));
  }
  return full_recompute_layout(problem, balanced_cuts(weights, problem.num_stages));
}

}  // namespace gimbal
