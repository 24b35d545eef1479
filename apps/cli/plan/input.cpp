#include "apps/cli/plan/input.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "apps/cli/balance/input.h"
#include "apps/cli/balance/names.h"
#include "apps/cli/plan/freeze.h"
#include "apps/cli/plan/mesh_choice.h"
#include "apps/cli/plan/notes.h"
#include "gimbal/arch/describe.h"
#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"
#include "gimbal/config/problems.h"
#include "gimbal/cost/hardware.h"
#include "gimbal/cost/model_fingerprint.h"
#include "gimbal/plan/search/meshes.h"
#include "gimbal/schedule/schedule.h"

namespace gimbal::cli {
namespace {

StageRecipe chosen_stage(const PlanInputArguments& arguments) {
  const std::vector<StageRecipe> stages =
      load_recipe(arguments.recipe, arguments.overrides, {"model.path", "data.train"});
  std::vector<std::string> names;
  for (const StageRecipe& stage : stages) {
    if (stage.name == arguments.stage) return stage;
    names.push_back(stage.name);
  }
  if (arguments.stage.empty()) {
    GIMBAL_USER_CHECK(stages.size() == 1, arguments.recipe, ": has the stages ", joined(names),
                      "; choose the one to plan with --stage NAME");
    return stages.front();
  }
  const std::string meant = nearest(arguments.stage, names);
  throw UserError(concat("--stage: ", arguments.recipe, " has no stage '", arguments.stage,
                         "'; it has ", joined(names),
                         meant.empty() ? "" : "; did you mean " + meant + "?"));
}

const Recipe* recipe_of(const PlanSetup& setup) {
  return setup.stage ? &setup.stage->recipe : nullptr;
}

// Settings of a recipe that change the packs in ways that plans do not know.
void check_balance(const BalanceConfig& balance, bool search_caps) {
  GIMBAL_USER_CHECK(balance.method == BalanceMethod::kGimbal,
                    "balance.method: a plan is made for packs of method gimbal, not of ",
                    enum_name(balance.method), "; add balance.method=gimbal");
  GIMBAL_USER_CHECK(balance.micro_batches == 1,
                    "balance.micro_batches: a plan runs each pack as one micro-batch; add "
                    "balance.micro_batches=1");
  GIMBAL_USER_CHECK(balance.samples_per_pack == 0,
                    "balance.samples_per_pack: a plan limits packs by their rows alone; add "
                    "balance.samples_per_pack=0");
  GIMBAL_USER_CHECK(balance.packs_per_slot == 0,
                    "balance.packs_per_slot: a plan makes all packs of a step alike; add "
                    "balance.packs_per_slot=0");
  GIMBAL_USER_CHECK(search_caps || balance.oversize != OversizeChoice::kAlone,
                    "balance.oversize: a plan cannot vouch for packs above the caps; add "
                    "balance.oversize=reject, or --cap auto");
}

StateBytes state_bytes_of(const std::string& dtype) {
  if (dtype == "bfloat16") return {};
  // Blocks use the master values themselves.
  return dtype == "float64" ? StateBytes{8, 0, 8, 16} : StateBytes{4, 0, 4, 8};
}

ProfileTable read_profile(const PlanInputArguments& arguments, const ModelDesc& model,
                          const std::string& dtype) {
  if (!arguments.hardware.empty()) {
    const Hardware hardware = find_hardware(arguments.hardware);
    return analytic_profile(model, hardware, dtype.empty() ? "bfloat16" : dtype);
  }
  ProfileTable profile = load_profile(arguments.profile);
  GIMBAL_USER_CHECK(
      profile.model_fingerprint.empty() || profile.model_fingerprint == model_fingerprint(model),
      arguments.profile, ": was measured on another model (", profile.model_type,
      " of other sizes) than this ", model.type,
      "; measure this one with gimbal profile, or give --hardware NAME");
  GIMBAL_USER_CHECK(dtype.empty() || dtype == profile.dtype, arguments.profile,
                    ": was measured in ", profile.dtype, ", but the plan is for ", dtype,
                    "; measure again (gimbal profile), or give --dtype ", profile.dtype);
  return profile;
}

// The caps of the streams text and vision; 0: none.
std::vector<std::uint64_t> named_caps(const PlanInputArguments& arguments, bool vision) {
  std::vector<std::uint64_t> caps(2);
  const std::vector<std::string> names{"text", "vision"};
  for (const auto& [name, rows] : arguments.caps) {
    const std::string stream = name == "tokens"                       ? "text"
                               : name == "tiles" || name == "patches" ? "vision"
                                                                      : name;
    const std::size_t k = index_of("--cap", stream, "stream", names);
    GIMBAL_USER_CHECK(k == 0 || vision, "--cap ", name,
                      ": no sample has vision rows; leave it out");
    GIMBAL_USER_CHECK(caps[k] == 0, "--cap ", name, ": stream ", stream,
                      " is given twice; leave one of them out");
    caps[k] = rows;
  }
  return caps;
}

// Leaves out or refuses samples above the caps.
void screen(PlanSetup& setup, bool reject) {
  const std::size_t left_out = screen_plan_samples(
      setup.samples, *setup.input.caps, reject ? OversizePolicy::kReject : OversizePolicy::kError);
  if (left_out == 0) return;
  setup.notes.push_back(concat(left_out, left_out == 1 ? " sample above a cap is left out"
                                                       : " samples above a cap are left out"));
}

// The caps and the size of a step, from the options and otherwise from the recipe.
void choose_step(const PlanInputArguments& arguments, const Recipe* recipe, PlanSetup& setup) {
  PlanInput& input = setup.input;
  const bool vision = !setup.samples.table.vision_rows.empty();
  std::vector<std::uint64_t> recipe_caps;
  if (recipe != nullptr) {
    check_balance(recipe->balance, arguments.search_caps || !arguments.caps.empty());
    recipe_caps = {static_cast<std::uint64_t>(recipe->balance.text_cap),
                   static_cast<std::uint64_t>(recipe->balance.vision_cap)};
  }
  if (!arguments.caps.empty()) {
    input.caps = named_caps(arguments, vision);
  } else if (recipe != nullptr && !arguments.search_caps) {
    input.caps = recipe_caps;
  }
  const bool reject =
      recipe != nullptr ? recipe->balance.oversize == OversizeChoice::kReject : arguments.reject;
  if (input.caps) screen(setup, reject);
  if (arguments.samples_per_step) {
    input.samples_per_step = *arguments.samples_per_step;
  } else if (arguments.packs_per_step) {
    input.packs_per_step = arguments.packs_per_step;
  } else if (recipe != nullptr) {
    const auto packs = static_cast<std::uint64_t>(recipe->balance.packs_per_step);
    if (input.caps == recipe_caps) {
      input.packs_per_step = packs;
    } else {
      // Other caps, the same training: as many samples a step as the recipe's packs hold.
      PlanSamples of_recipe = setup.samples;
      screen_plan_samples(of_recipe, recipe_caps,
                          reject ? OversizePolicy::kReject : OversizePolicy::kError);
      PackChoice choice;
      choice.caps.rows = recipe_caps;
      choice.packs_per_step = packs;
      choice.seed = input.seed;
      const PackedWork packed =
          pack_work(of_recipe.table, input.model, stream_costs(input.model), choice);
      input.samples_per_step = static_cast<double>(packs) * packed.samples_per_pack;
    }
  }
}

// In what the model of a plan differs from this one, as far as the plan file tells.
std::string difference(const Plan& plan, const ModelDesc& model) {
  if (plan.model_type != model.type) return concat("it is ", plan.model_type, ", not ", model.type);
  if (plan.blocks.size() != model.blocks.size()) {
    return concat("it has ", plan.blocks.size(), " blocks, not ", model.blocks.size());
  }
  for (std::size_t i = 0; i < plan.blocks.size(); ++i) {
    if (plan.blocks[i] == model.blocks[i].name) continue;
    return concat("its block ", i, " is ", plan.blocks[i], ", not ", model.blocks[i].name);
  }
  return "its blocks have the same names and other sizes (widths, heads or vocabulary)";
}

// Mesh, schedule, caps and packs per step of a given plan.
void take_over(const Plan& plan, const std::string& file, PlanSetup& setup) {
  PlanInput& input = setup.input;
  GIMBAL_USER_CHECK(plan.model_fingerprint == model_fingerprint(input.model), file,
                    ": was made for another model: ", difference(plan, input.model),
                    "; make a plan for this model with gimbal plan");
  for (std::size_t i = 0; i < plan.blocks.size(); ++i) {
    GIMBAL_USER_CHECK(i < input.model.blocks.size() && plan.blocks[i] == input.model.blocks[i].name,
                      file, ": block ", plan.blocks[i], " is not of the model at place ", i,
                      "; make the plan again with gimbal plan");
  }
  GIMBAL_USER_CHECK(plan.blocks.size() == input.model.blocks.size(), file, ": has ",
                    plan.blocks.size(), " blocks, the model ", input.model.blocks.size(),
                    "; make the plan again with gimbal plan");
  input.devices = plan.mesh.devices();
  input.pp = plan.mesh.pp;
  input.tp = plan.mesh.tp;
  input.sp = plan.mesh.sp;
  input.ep = plan.mesh.ep;
  input.dp_shard = plan.mesh.dp_shard;
  input.dp_replicate = plan.mesh.dp_replicate;
  input.packs_per_step = plan.packs_per_step;
  std::vector<std::uint64_t> caps(2);
  for (std::size_t k = 0; k < plan.streams.size(); ++k) {
    GIMBAL_USER_CHECK(plan.streams[k] == "text" || plan.streams[k] == "vision", file,
                      ": packs.caps: there is no stream ", plan.streams[k],
                      "; streams are text and vision");
    caps[plan.streams[k] == "text" ? 0 : 1] = plan.caps[k];
  }
  input.caps = caps;
  try {
    make_schedule(plan.schedule);
    possible_meshes(input);
  } catch (const UserError& error) {
    throw UserError(file + ": " + error.what());
  }
}

// All but the choices of mesh, caps and step.
PlanSetup read_sources(const PlanInputArguments& arguments, const std::string& plan_dtype) {
  PlanSetup setup;
  PlanInput& input = setup.input;
  std::string dtype = arguments.dtype;
  if (!arguments.recipe.empty()) {
    setup.stage = chosen_stage(arguments);
    setup.notes = recipe_notes(*setup.stage);
  }
  const Recipe* recipe = recipe_of(setup);
  if (recipe != nullptr) {
    if (dtype.empty()) dtype = enum_name(recipe->model.dtype);
    input.seed = static_cast<std::uint64_t>(recipe->train.seed);
  }
  if (dtype.empty()) dtype = plan_dtype;
  if (arguments.seed) input.seed = *arguments.seed;
  input.model = describe_model_file(recipe != nullptr ? recipe->model.path : arguments.model);
  input.frozen = recipe != nullptr
                     ? frozen_blocks(input.model, recipe->model.freeze, "model.freeze")
                     : frozen_blocks(input.model, arguments.freeze, "--freeze");
  input.profile = read_profile(arguments, input.model, dtype);
  input.state = state_bytes_of(input.profile.dtype);
  auto lengths = std::make_shared<const LengthTable>(read_balance_input(
      recipe != nullptr ? std::vector<std::string>{recipe->data.train} : arguments.lengths));
  setup.samples =
      plan_samples(std::move(lengths), input.model,
                   recipe != nullptr ? recipe->data.weights : std::map<std::string, double>());
  input.memory_bytes = arguments.memory_bytes;
  input.memo = make_pack_memo();
  return setup;
}

}  // namespace

PlanSetup read_plan_setup(const PlanInputArguments& arguments) {
  PlanSetup setup = read_sources(arguments, "");
  setup.input.without = arguments.without;
  for (std::string& note : choose_mesh(arguments, setup.stage, setup.input))
    setup.notes.push_back(std::move(note));
  choose_step(arguments, recipe_of(setup), setup);
  setup.input.samples = setup.samples.table;
  setup.input.memo = make_pack_memo();
  return setup;
}

PlanSetup read_plan_setup(const PlanInputArguments& arguments, const Plan& plan,
                          const std::string& file) {
  PlanSetup setup = read_sources(arguments, plan.dtype);
  GIMBAL_USER_CHECK(!arguments.devices || *arguments.devices == plan.mesh.devices(),
                    "--devices: ", file, " is a plan for ", plan.mesh.devices(), ", not ",
                    arguments.devices.value_or(0), "; leave the option out");
  take_over(plan, file, setup);
  bool reject = arguments.reject;
  if (setup.stage) {
    const BalanceConfig& balance = setup.stage->recipe.balance;
    check_balance(balance, false);
    reject = balance.oversize == OversizeChoice::kReject;
  }
  screen(setup, reject);
  setup.input.samples = setup.samples.table;
  setup.input.memo = make_pack_memo();
  return setup;
}

}  // namespace gimbal::cli
