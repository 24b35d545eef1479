#include "gimbal/train/follow_plan.h"

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/cost/model_fingerprint.h"
#include "gimbal/plan/plan_file.h"
#include "gimbal/train/block_levels.h"
#include "gimbal/train/preflight.h"

namespace gimbal {
namespace {

std::string quoted_plan(const std::string& file) { return "plan '" + file + "'"; }

/// Where the recipe sets `key` or a part of it; empty when it has its default.
std::string place_given(const StageRecipe& stage, const std::string& key) {
  const auto it = stage.given.find(key);
  return it == stage.given.end() ? "" : it->second;
}

/// Takes whole numbers of the plan over and collects those that the recipe has otherwise.
class PlanOptions {
 public:
  PlanOptions(StageRecipe& stage, std::string plan_file)
      : stage_(stage), plan_file_(std::move(plan_file)) {}

  void take(const std::string& key, std::int64_t& field, std::uint64_t planned) {
    const auto value = static_cast<std::int64_t>(planned);
    const std::string place = place_given(stage_, key);
    if (!place.empty() && field != value)
      add(place, key, std::to_string(field), std::to_string(value));
    field = value;
  }

  void add(const std::string& place, const std::string& key, const std::string& recipe,
           const std::string& plan) {
    problems_ += concat("\n  ", place, ": ", key, " is ", recipe, "; the plan has ", plan);
  }

  void throw_if_any() const {
    GIMBAL_USER_CHECK(problems_.empty(), "the recipe and the ", quoted_plan(plan_file_),
                      " (train.plan) do not agree:", problems_,
                      "\nRemove these keys from the recipe to follow the plan, or remove "
                      "train.plan, or plan again with these values.");
  }

 private:
  StageRecipe& stage_;
  std::string plan_file_;
  std::string problems_;
};

void take_caps(const Plan& plan, const std::string& plan_file, PlanOptions& options,
               BalanceConfig& balance) {
  GIMBAL_CHECK_EQ(plan.streams.size(), plan.caps.size());
  bool has_text = false;
  for (std::size_t k = 0; k < plan.streams.size(); ++k) {
    const std::string& stream = plan.streams[k];
    GIMBAL_USER_CHECK(stream == "text" || stream == "vision", quoted_plan(plan_file),
                      " has a cap for the stream '", stream,
                      "'; training has the streams text and vision");
    if (stream == "vision") {
      options.take("balance.vision_cap", balance.vision_cap, plan.caps[k]);
      continue;
    }
    has_text = plan.caps[k] > 0;
    options.take("balance.text_cap", balance.text_cap, plan.caps[k]);
  }
  GIMBAL_USER_CHECK(has_text, quoted_plan(plan_file),
                    " has no cap on text rows, which training needs; plan again with a text cap");
}

/// The first key with which the recipe chooses recompute levels; empty when it leaves them.
std::string recompute_key(const StageRecipe& stage) {
  for (const char* key : {"model.recompute", "model.recompute_blocks", "model.recompute_groups"}) {
    if (stage.given.contains(key)) return key;
  }
  return "";
}

void take_levels(const Plan& plan, const ModelDesc& model, PlanOptions& options,
                 StageRecipe& stage) {
  ModelConfig& config = stage.recipe.model;
  const std::string key = recompute_key(stage);
  std::vector<RecomputeGroupConfig> groups;
  const std::vector<Recompute> asked =
      key.empty() ? std::vector<Recompute>{} : block_levels(config, model);
  bool reported = false;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Recompute planned = level_of_block(model.blocks[i], plan.layout.recompute[i]);
    if (planned != Recompute::kKeep) groups.push_back({model.blocks[i].name, planned});
    if (asked.empty() || asked[i] == planned || reported) continue;
    reported = true;  // the first block stands for all
    options.add(stage.given.at(key), key, concat(enum_name(asked[i]), " for ", plan.blocks[i]),
                enum_name(planned));
  }
  config.recompute = Recompute::kKeep;
  config.recompute_blocks.clear();
  config.recompute_groups = std::move(groups);
}

}  // namespace

void check_plan_runs(const Plan& plan, const std::string& plan_file, int world_size) {
  const MeshShape& mesh = plan.mesh;
  const MeshShape replicated{.dp_replicate = mesh.dp_replicate};
  GIMBAL_USER_CHECK(mesh == replicated, quoted_plan(plan_file), " has the mesh ", to_string(mesh),
                    ". Training runs plain data parallel (dp_replicate); there is no runtime for "
                    "its other axes yet. `gimbal plan --pp 1 --tp 1 --sp 1 --ep 1 --dp-shard 1` "
                    "makes a plan that runs.");
  GIMBAL_USER_CHECK(mesh.dp_replicate == world_size, quoted_plan(plan_file), " is for ",
                    mesh.dp_replicate, mesh.dp_replicate == 1 ? " process" : " processes",
                    ", but this run has ", world_size, ". Start it with --nproc ",
                    mesh.dp_replicate, ", or plan with --devices ", world_size, ".");
}

void check_plan_model(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                      const std::string& model_folder) {
  const std::string advice = ". Plan again with this model, or give the plan made for it.";
  GIMBAL_USER_CHECK(plan.model_type == model.type, quoted_plan(plan_file), " is for a ",
                    plan.model_type, " model, the one in '", model_folder, "' is ", model.type,
                    advice);
  GIMBAL_USER_CHECK(plan.blocks.size() == model.blocks.size(), quoted_plan(plan_file), " has ",
                    plan.blocks.size(), " blocks, the model in '", model_folder, "' has ",
                    model.blocks.size(), advice);
  for (std::size_t i = 0; i < plan.blocks.size(); ++i) {
    GIMBAL_USER_CHECK(plan.blocks[i] == model.blocks[i].name, quoted_plan(plan_file), ": block ", i,
                      " is '", plan.blocks[i], "', in the model in '", model_folder, "' it is '",
                      model.blocks[i].name, "'", advice);
  }
  GIMBAL_USER_CHECK(plan.model_fingerprint == model_fingerprint(model), quoted_plan(plan_file),
                    " is for a model with the same blocks but other sizes than the one in '",
                    model_folder, "'", advice);
}

void apply_plan(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                StageRecipe& stage) {
  BalanceConfig& balance = stage.recipe.balance;
  PlanOptions options(stage, plan_file);
  take_caps(plan, plan_file, options, balance);
  options.take("balance.packs_per_step", balance.packs_per_step, plan.packs_per_step);
  // A plan runs each pack as one micro-batch.
  options.take("balance.micro_batches", balance.micro_batches, 1);
  take_levels(plan, model, options, stage);
  options.throw_if_any();
}

std::string plan_warning(const Plan& plan, const Recipe& recipe) {
  const std::string dtype = enum_name(recipe.model.dtype);
  if (plan.dtype == dtype) return "";
  return concat("the ", quoted_plan(recipe.train.plan), " was made for ", plan.dtype,
                ", this run computes in ", dtype,
                ": its times and memory do not hold. Plan again, or set model.dtype=", plan.dtype,
                ".");
}

StageRecipe follow_plan(StageRecipe stage, int world_size) {
  const std::string& file = stage.recipe.train.plan;
  if (file.empty()) return stage;
  const Plan plan = load_plan(file);
  const ModelDesc model = model_for_training(stage.recipe).desc;
  check_plan_model(plan, file, model, stage.recipe.model.path);
  check_plan_runs(plan, file, world_size);
  apply_plan(plan, file, model, stage);
  return stage;
}

}  // namespace gimbal
