#include "gimbal/train/layout/follow_plan.h"

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/config/enums.h"
#include "gimbal/cost/model_fingerprint.h"
#include "gimbal/plan/file/block_runs.h"
#include "gimbal/plan/file/parallel_section.h"
#include "gimbal/plan/file/plan_file.h"
#include "gimbal/train/layout/plan_options.h"
#include "gimbal/train/preflight.h"
#include "gimbal/train/tape/block_levels.h"

namespace gimbal {
namespace {

std::string quoted_plan(const std::string& file) { return "plan '" + file + "'"; }

/// "the frozen blocks a, b".
std::string frozen_text(const std::vector<std::string>& blocks) {
  if (blocks.empty()) return "no frozen blocks";
  std::string text = "the frozen blocks ";
  for (const std::string& run : block_runs(blocks)) {
    if (!text.ends_with(' ')) text += ", ";
    text += run;
  }
  return text;
}

/// The words that give `gimbal plan` the caps of the recipe, and the plan's where it has none.
std::string cap_words(const Plan& plan, const PlanOptions& options, const BalanceConfig& balance) {
  std::string words;
  for (std::size_t k = 0; k < plan.streams.size(); ++k) {
    const std::string& stream = plan.streams[k];
    const std::int64_t asked = stream == "text" ? balance.text_cap : balance.vision_cap;
    const bool given = options.is_given("balance." + stream + "_cap");
    const std::int64_t rows = given ? asked : static_cast<std::int64_t>(plan.caps[k]);
    // A stream without an option has no cap.
    if (rows > 0) words += concat(words.empty() ? "" : " ", "--cap ", stream, "=", rows);
  }
  return words;
}

void take_caps(const Plan& plan, const std::string& plan_file, PlanOptions& options,
               BalanceConfig& balance) {
  GIMBAL_CHECK_EQ(plan.streams.size(), plan.caps.size());
  const std::string words = cap_words(plan, options, balance);
  bool has_text = false;
  for (std::size_t k = 0; k < plan.streams.size(); ++k) {
    const std::string& stream = plan.streams[k];
    GIMBAL_USER_CHECK(stream == "text" || stream == "vision", quoted_plan(plan_file),
                      " has a cap for the stream '", stream,
                      "'; training has the streams text and vision");
    if (stream == "vision") {
      options.take("balance.vision_cap", balance.vision_cap, plan.caps[k], words);
      continue;
    }
    has_text = plan.caps[k] > 0;
    options.take("balance.text_cap", balance.text_cap, plan.caps[k], words);
  }
  GIMBAL_USER_CHECK(has_text, quoted_plan(plan_file),
                    " has no cap on text rows, which training needs; plan again with a text cap");
}

/// Options that change the packs in ways that plans do not know.
void check_packs(const BalanceConfig& balance, PlanOptions& options) {
  if (balance.method != BalanceMethod::kGimbal)
    options.add("balance.method", enum_name(balance.method),
                "a plan is made for packs of method gimbal");
  if (balance.samples_per_pack != 0)
    options.add("balance.samples_per_pack", std::to_string(balance.samples_per_pack),
                "a plan limits packs by their rows alone");
  if (balance.packs_per_slot != 0)
    options.add("balance.packs_per_slot", std::to_string(balance.packs_per_slot),
                "a plan makes all packs of a step alike");
  if (balance.oversize == OversizeChoice::kAlone)
    options.add("balance.oversize", enum_name(balance.oversize),
                "a plan cannot vouch for packs above the caps (error and reject make none)");
}

/// The first key with which the recipe chooses recompute levels; empty when it leaves them.
std::string recompute_key_given(const StageRecipe& stage) {
  for (const char* key : {"model.recompute", "model.recompute_blocks", "model.recompute_groups"}) {
    if (stage.given.contains(key)) return key;
  }
  return "";
}

void take_levels(const Plan& plan, const ModelDesc& model, PlanOptions& options,
                 StageRecipe& stage) {
  ModelConfig& config = stage.recipe.model;
  const std::string any_key = recompute_key_given(stage);
  std::vector<RecomputeGroupConfig> groups;
  const std::vector<Recompute> asked =
      any_key.empty() ? std::vector<Recompute>{} : block_levels(config, model);
  bool reported = false;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const Recompute planned = level_of_block(model.blocks[i], plan.layout.recompute[i]);
    if (planned != Recompute::kKeep) groups.push_back({model.blocks[i].name, planned});
    if (asked.empty() || asked[i] == planned || reported) continue;
    reported = true;  // the first block stands for all
    const std::string key = recompute_key(config, model.blocks[i]);
    // A key that is left at its default decides because the others leave the block to it.
    options.add(stage.given.contains(key) ? key : any_key,
                concat(enum_name(asked[i]), " for ", plan.blocks[i]),
                concat("the plan has ", enum_name(planned)));
  }
  config.recompute = Recompute::kKeep;
  config.recompute_blocks.clear();
  config.recompute_groups = std::move(groups);
}

/// Mesh, schedule and cuts.
void take_parallel(const Plan& plan, PlanOptions& options, StageRecipe& stage) {
  ParallelConfig& config = stage.recipe.parallel;
  for (const ParallelConflict& conflict : parallel_conflicts(plan, config, stage.given))
    options.add(conflict.key, conflict.asked, "the plan has " + conflict.planned, conflict.option);
  const ParallelConfig planned = parallel_of_plan(plan, config);
  options.compare_axes(config, planned);
  config = planned;
}

}  // namespace

void check_plan_runs(const Plan& plan, const std::string& plan_file, int world_size) {
  GIMBAL_USER_CHECK(plan.mesh.ep == 1, quoted_plan(plan_file), " has the mesh ",
                    to_string(plan.mesh),
                    ". Training has no expert parallelism; plan again with --ep 1.");
  const int devices = plan.mesh.devices();
  GIMBAL_USER_CHECK(devices == world_size, quoted_plan(plan_file), " is for ", devices,
                    devices == 1 ? " process" : " processes", ", but this run has ", world_size,
                    ". Start it with --nproc ", devices,
                    ", or plan again: `gimbal plan RECIPE "
                    "--devices ",
                    world_size, " ", last_plan_words(plan), "`.");
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

void check_plan_freeze(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                       const std::vector<bool>& frozen) {
  GIMBAL_CHECK(plan.frozen.empty() || plan.frozen.size() == frozen.size(), "frozen blocks");
  std::vector<std::string> planned_names, recipe_names;
  for (std::size_t i = 0; i < frozen.size(); ++i) {
    if (model.blocks[i].num_parameters == 0) continue;
    if (!plan.frozen.empty() && plan.frozen[i]) planned_names.push_back(model.blocks[i].name);
    if (frozen[i]) recipe_names.push_back(model.blocks[i].name);
  }
  GIMBAL_USER_CHECK(planned_names == recipe_names, quoted_plan(plan_file), " is for a model with ",
                    frozen_text(planned_names), ", the recipe has ", frozen_text(recipe_names),
                    " (model.freeze). Freeze the same blocks, or plan again with this "
                    "model.freeze.");
}

void apply_plan(const Plan& plan, const std::string& plan_file, const ModelDesc& model,
                StageRecipe& stage) {
  BalanceConfig& balance = stage.recipe.balance;
  PlanOptions options(stage, plan_file, plan);
  check_packs(balance, options);
  take_caps(plan, plan_file, options, balance);
  options.take("balance.packs_per_step", balance.packs_per_step, plan.packs_per_step,
               concat("--packs-per-step ", balance.packs_per_step));
  // A plan runs each pack as one micro-batch.
  options.take("balance.micro_batches", balance.micro_batches, 1, "");
  take_parallel(plan, options, stage);
  take_levels(plan, model, options, stage);
  options.throw_if_any(plan.mesh.devices());
}

std::string plan_warning(const Plan& plan, const Recipe& recipe) {
  const std::string dtype = enum_name(recipe.model.dtype);
  if (plan.dtype == dtype) return "";
  return concat("the ", quoted_plan(recipe.train.plan), " was made for ", plan.dtype,
                ", this run computes in ", dtype,
                ": its times and memory do not hold. Plan again, or set model.dtype=", plan.dtype,
                ".");
}

PlannedStage follow_plan(StageRecipe stage, int world_size) {
  const std::string file = stage.recipe.train.plan;
  if (file.empty()) return {std::move(stage), std::nullopt};
  Plan plan = load_plan(file);
  const Model model = model_for_training(stage.recipe);
  check_plan_model(plan, file, model.desc, stage.recipe.model.path);
  check_plan_freeze(plan, file, model.desc, frozen_blocks(model));
  check_plan_runs(plan, file, world_size);
  apply_plan(plan, file, model.desc, stage);
  return {std::move(stage), std::move(plan)};
}

StageRecipe follow_plan_mesh(StageRecipe stage, const ModelDesc& model, int world_size) {
  const std::string file = stage.recipe.train.plan;
  if (file.empty()) return stage;
  const Plan plan = load_plan(file);
  check_plan_model(plan, file, model, stage.recipe.model.path);
  check_plan_runs(plan, file, world_size);
  PlanOptions options(stage, file, plan);
  take_parallel(plan, options, stage);
  options.throw_if_any(world_size);
  return stage;
}

std::filesystem::path plan_copy(const std::filesystem::path& run_folder) {
  return run_folder / "plan.json";
}

void save_plan_copy(const Plan& plan, const std::filesystem::path& run_folder) {
  make_folders(run_folder);
  save_plan(plan, plan_copy(run_folder));
}

StageRecipe with_plan_copy(StageRecipe stage, const std::filesystem::path& run_folder) {
  std::string& plan = stage.recipe.train.plan;
  if (!plan.empty()) plan = plan_copy(run_folder).string();
  return stage;
}

}  // namespace gimbal
