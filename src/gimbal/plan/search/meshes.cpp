#include "gimbal/plan/search/meshes.h"

#include <algorithm>
#include <string>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr int kMostSequenceParallel = 16;
constexpr int kMostStages = 64;

std::vector<int> divisors(int number) {
  std::vector<int> all;
  for (int d = 1; d <= number; ++d) {
    if (number % d == 0) all.push_back(d);
  }
  return all;
}

/// Why the model cannot be planned with tp and sp, with advice; empty when it can. Training cuts
/// feed-forward widths unevenly; a plan's times and memory take ranks with equal shares.
std::string model_objection(const ModelDesc& model, int tp, int sp) {
  std::string objection =
      heads_objection({model.text_heads, model.text_kv_heads, model.vision_heads}, tp, sp);
  if (!objection.empty()) return objection;
  if (model.text_ffn % tp != 0 || model.vision_ffn % tp != 0) {
    return concat("tp ", tp, " does not divide the feed-forward widths ", model.text_ffn,
                  model.vision_ffn > 0 ? concat(" (text) and ", model.vision_ffn, " (vision)") : "",
                  "; choose another tp");
  }
  return "";
}

void check_fixed(const PlanInput& input) {
  GIMBAL_USER_CHECK(input.devices >= 1, "--devices is ", input.devices, "; must be at least 1");
  std::int64_t product = 1;
  std::string named;
  for (const auto& [name, axis] :
       {std::pair{"pp", input.pp}, std::pair{"tp", input.tp}, std::pair{"sp", input.sp},
        std::pair{"dp_shard", input.dp_shard}, std::pair{"dp_replicate", input.dp_replicate}}) {
    if (!axis) continue;
    GIMBAL_USER_CHECK(*axis >= 1, name, " is ", *axis, "; must be at least 1");
    product *= *axis;
    named += concat(named.empty() ? "" : " x ", name, " ", *axis);
  }
  GIMBAL_USER_CHECK(input.devices % product == 0, input.devices,
                    input.devices == 1 ? " device" : " devices", " cannot be factored with ", named,
                    ": ", product, " does not divide ", input.devices,
                    ". Change the number of devices or an axis.");
  const bool all_fixed = input.pp && input.tp && input.sp && input.dp_shard && input.dp_replicate;
  GIMBAL_USER_CHECK(!all_fixed || product == input.devices, named, " is ", product,
                    " devices, but there are ", input.devices,
                    ". Leave one axis free or change the number of devices.");
  if (input.ep) {
    GIMBAL_USER_CHECK(*input.ep >= 1, "ep is ", *input.ep, "; must be at least 1");
    GIMBAL_USER_CHECK(*input.ep == 1 || input.model.num_experts > 0, "ep is ", *input.ep, ", but ",
                      input.model.type, " has no routed experts; use ep 1");
    GIMBAL_USER_CHECK(*input.ep == 1 || input.model.num_experts % *input.ep == 0, "ep ", *input.ep,
                      " does not divide the model's ", input.model.num_experts, " experts");
  }
  const std::string objection =
      model_objection(input.model, input.tp.value_or(1), input.sp.value_or(1));
  GIMBAL_USER_CHECK(objection.empty(), objection);
  const auto num_blocks = static_cast<int>(input.model.blocks.size());
  GIMBAL_USER_CHECK(input.pp.value_or(1) <= num_blocks, "pp ", input.pp.value_or(1),
                    " is more stages than the model has blocks (", num_blocks, ")");
}

/// The axis' fixed size, or the divisors of `left` up to `most`; 1 alone without mesh search.
std::vector<int> sizes_of(const std::optional<int>& fixed, int left, int most, bool search) {
  if (fixed) return left % *fixed == 0 ? std::vector<int>{*fixed} : std::vector<int>{};
  if (!search) return {1};
  std::vector<int> sizes = divisors(left);
  std::erase_if(sizes, [&](int size) { return size > most; });
  return sizes;
}

std::vector<int> shard_sizes(const PlanInput& input, int data_parallel, int ranks_inside,
                             bool search) {
  if (input.dp_shard) {
    return data_parallel % *input.dp_shard == 0 ? std::vector<int>{*input.dp_shard}
                                                : std::vector<int>{};
  }
  if (input.dp_replicate) {
    return data_parallel % *input.dp_replicate == 0
               ? std::vector<int>{data_parallel / *input.dp_replicate}
               : std::vector<int>{};
  }
  if (!search) return {data_parallel};
  std::vector<int> sizes{1, data_parallel};
  const int in_node = input.profile.links.devices_per_node / std::max(1, ranks_inside);
  if (in_node > 1 && data_parallel % in_node == 0) sizes.push_back(in_node);
  std::sort(sizes.begin(), sizes.end());
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

std::vector<int> expert_sizes(const PlanInput& input, int ranks, bool search) {
  if (input.ep) return ranks % *input.ep == 0 ? std::vector<int>{*input.ep} : std::vector<int>{};
  if (!search || input.model.num_experts == 0) return {1};
  std::vector<int> sizes = divisors(ranks);
  std::erase_if(sizes, [&](int size) { return input.model.num_experts % size != 0; });
  return sizes;
}

}  // namespace

std::vector<MeshShape> possible_meshes(const PlanInput& input) {
  check_fixed(input);
  const bool search = !input.without.contains("mesh");
  const int per_node = std::max(1, input.profile.links.devices_per_node);
  const auto num_blocks = static_cast<int>(input.model.blocks.size());
  std::vector<MeshShape> meshes;
  for (const int pp :
       sizes_of(input.pp, input.devices, std::min(kMostStages, num_blocks), search)) {
    for (const int tp : sizes_of(input.tp, input.devices / pp, per_node, search)) {
      for (const int sp :
           sizes_of(input.sp, input.devices / pp / tp, kMostSequenceParallel, search)) {
        if (!model_objection(input.model, tp, sp).empty()) continue;
        const int data_parallel = input.devices / pp / tp / sp;
        for (const int shard : shard_sizes(input, data_parallel, tp * sp, search)) {
          const int replicate = data_parallel / shard;
          if (input.dp_replicate && *input.dp_replicate != replicate) continue;
          for (const int ep : expert_sizes(input, shard * sp, search)) {
            meshes.push_back({pp, replicate, shard, sp, tp, ep});
          }
        }
      }
    }
  }
  GIMBAL_USER_CHECK(!meshes.empty(), input.devices, input.devices == 1 ? " device" : " devices",
                    " cannot be factored into the given axes so that ep divides dp_shard x "
                    "sp and heads are divided evenly. Leave an axis free or change the number of "
                    "devices.");
  return meshes;
}

}  // namespace gimbal
