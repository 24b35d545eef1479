#include "apps/cli/plan/mesh_choice.h"

#include <cstdint>

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/plan/file/parallel_section.h"
#include "gimbal/plan/search/meshes.h"

namespace gimbal::cli {
namespace {

// Takes the keys of `parallel` that the recipe sets and no option replaces, and lists them.
class RecipeMesh {
 public:
  explicit RecipeMesh(const StageRecipe& stage) : stage_(stage) {}

  void fix_axis(const char* name, std::int64_t size, std::optional<int>& axis) {
    if (axis || !is_given(name)) return;
    GIMBAL_USER_CHECK(size <= kMostDevices, "parallel.", name, ": is ", size,
                      "; a plan takes at most ", kMostDevices);
    axis = static_cast<int>(size);
    add(name, std::to_string(size));
  }

  template <typename Choice, typename Field>
  void fix_choice(const char* name, const Choice& choice, Field value,
                  std::optional<Field>& field) {
    if (field || !is_given(name)) return;
    field = value;
    add(name, enum_name(choice));
  }

  // "pp 2, schedule zb-h1"; empty when nothing is fixed.
  const std::string& list() const { return list_; }

 private:
  bool is_given(const char* name) const { return stage_.given.contains(concat("parallel.", name)); }
  void add(const char* name, const std::string& value) {
    list_ += concat(list_.empty() ? "" : ", ", name, " ", value);
  }

  const StageRecipe& stage_;
  std::string list_;
};

std::string fix_by_recipe(const PlanInputArguments& arguments, const StageRecipe& stage,
                          PlanInput& input) {
  const ParallelConfig& config = stage.recipe.parallel;
  RecipeMesh mesh(stage);
  mesh.fix_axis("pp", config.pp, input.pp);
  // 0 leaves it to the other axes and the devices.
  if (config.dp_replicate > 0)
    mesh.fix_axis("dp_replicate", config.dp_replicate, input.dp_replicate);
  mesh.fix_axis("dp_shard", config.dp_shard, input.dp_shard);
  mesh.fix_axis("sp", config.sp, input.sp);
  mesh.fix_axis("tp", config.tp, input.tp);
  mesh.fix_choice("schedule", config.schedule, pipeline_kind_of(config.schedule), input.schedule);
  std::optional<int> stages_per_rank = arguments.stages_per_rank;
  mesh.fix_axis("stages_per_rank", config.stages_per_rank, stages_per_rank);
  input.stages_per_rank = stages_per_rank.value_or(input.stages_per_rank);
  mesh.fix_choice(
      "weights", config.weights,
      config.weights == WeightsChoice::kReshard ? ShardPolicy::kReshard : ShardPolicy::kKeepWeights,
      input.shard_policy);
  return mesh.list();
}

// Devices that the fixed axes make.
std::int64_t product_of_axes(const PlanInput& input) {
  std::int64_t product = 1;
  for (const std::optional<int>& axis :
       {input.pp, input.dp_replicate, input.dp_shard, input.sp, input.tp}) {
    product *= axis.value_or(1);
    GIMBAL_USER_CHECK(product <= kMostDevices, "the axes make more than ", kMostDevices,
                      " devices; lower one of them");
  }
  return product;
}

}  // namespace

std::vector<std::string> choose_mesh(const PlanInputArguments& arguments,
                                     const std::optional<StageRecipe>& stage, PlanInput& input) {
  input.pp = arguments.pp;
  input.tp = arguments.tp;
  input.sp = arguments.sp;
  input.ep = arguments.ep;
  input.dp_shard = arguments.dp_shard;
  input.dp_replicate = arguments.dp_replicate;
  input.schedule = arguments.schedule;
  input.stages_per_rank = arguments.stages_per_rank.value_or(input.stages_per_rank);
  const std::string by_recipe = stage ? fix_by_recipe(arguments, *stage, input) : "";
  std::vector<std::string> notes;
  if (!by_recipe.empty()) notes.push_back(concat("fixed by the recipe (parallel): ", by_recipe));
  input.devices = arguments.devices.value_or(static_cast<int>(product_of_axes(input)));
  if (!arguments.devices && input.devices > 1) {
    notes.push_back(concat("for ", input.devices,
                           " devices, the product of the axes; --devices N gives another number"));
  }
  if (by_recipe.empty()) return notes;
  try {
    possible_meshes(input);
  } catch (const UserError& error) {
    throw UserError(concat(error.what(), "\nThe recipe fixes ", by_recipe,
                           " (parallel); options like --pp N replace its axes."));
  }
  return notes;
}

}  // namespace gimbal::cli
