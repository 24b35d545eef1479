// The input options of `gimbal plan` and `gimbal simulate`.
#include <algorithm>
#include <filesystem>
#include <limits>

#include "apps/cli/option_values.h"
#include "apps/cli/plan/arguments.h"
#include "gimbal/base/error.h"
#include "gimbal/config/problems.h"
#include "gimbal/plan/planner.h"

namespace gimbal::cli {
namespace {

constexpr std::uint64_t kMostCapRows = std::uint64_t{1} << 63;

std::optional<int> axis_size(const char* option, const std::string& text) {
  if (text.empty()) return std::nullopt;
  return static_cast<int>(whole_number(option, text, 1, kMostDevices));
}

// "80": in GiB; "80G", "512MiB": as the option of the same name of `gimbal balance`.
Bytes memory_size(const std::string& text) {
  constexpr double kGiB = 1 << 30;
  const bool digits = text.find_first_not_of("0123456789.") == std::string::npos;
  return byte_count("--memory", text) * (digits ? kGiB : 1);
}

void read_plan_caps(const std::vector<std::string>& words, PlanInputArguments& arguments) {
  for (const std::string& word : words) {
    if (word == "auto") {
      arguments.search_caps = true;
      continue;
    }
    const auto [name, value] =
        split_name("--cap", word, "NAME=ROWS, for example text=4096, or auto");
    for (const auto& cap : arguments.caps) {
      GIMBAL_USER_CHECK(cap.first != name, "--cap ", name,
                        ": is given twice; leave one of them out");
    }
    arguments.caps.emplace_back(name, whole_number("--cap " + name, value, 1, kMostCapRows));
  }
  GIMBAL_USER_CHECK(!arguments.search_caps || arguments.caps.empty(),
                    "--cap auto: caps are searched together; leave the other --cap out");
}

void read_passes(const std::vector<std::string>& words, PlanInputArguments& arguments) {
  const std::vector<std::string> known = pass_names();
  for (const std::string& word : words) {
    if (std::find(known.begin(), known.end(), word) != known.end()) {
      arguments.without.insert(word);
      continue;
    }
    std::string list;
    for (const std::string& name : known) list += (list.empty() ? "" : ", ") + name;
    const std::string meant = nearest(word, known);
    throw UserError(concat("--without: there is no pass '", word, "'; the passes are ", list,
                           meant.empty() ? "" : "; did you mean " + meant + "?"));
  }
}

// The command that measures what these words ask for.
std::string profile_command(const PlanInputArguments& arguments) {
  const int devices = arguments.devices.value_or(1);
  std::filesystem::path model = arguments.model;
  // A plan takes the file as well.
  if (model.filename() == "config.json")
    model = model.has_parent_path() ? model.parent_path() : std::filesystem::path(".");
  return concat("gimbal profile ",
                arguments.recipe.empty() ? "--model " + model.string() : arguments.recipe,
                devices > 1 ? concat(" --nproc ", devices) : "", " --out profile.json");
}

void check_plan_sources(const PlanInputArguments& arguments) {
  GIMBAL_USER_CHECK(!arguments.recipe.empty() || !arguments.model.empty(),
                    "no model is given; give a recipe, or --model CONFIG.json with --lengths FILE");
  if (!arguments.recipe.empty()) {
    GIMBAL_USER_CHECK(arguments.model.empty(),
                      "--model: the recipe names the model; override it with model.path=FOLDER");
    GIMBAL_USER_CHECK(arguments.lengths.empty(),
                      "--lengths: the recipe names the data; override them with data.train=FOLDER");
    GIMBAL_USER_CHECK(
        arguments.freeze.empty(),
        "--freeze: the recipe says what is frozen; override it with model.freeze=[PATTERN]");
  } else {
    GIMBAL_USER_CHECK(!arguments.lengths.empty(),
                      "--model: needs the sizes of the samples; give --lengths FILE with it");
    GIMBAL_USER_CHECK(arguments.stage.empty(), "--stage: is of a recipe; leave it out");
  }
  GIMBAL_USER_CHECK(arguments.profile.empty() || arguments.hardware.empty(),
                    "--profile and --hardware: both say what blocks cost; leave one of them out");
  GIMBAL_USER_CHECK(!arguments.profile.empty() || !arguments.hardware.empty(),
                    "no machine is given. Measure this one",
                    arguments.devices.value_or(1) > 1 ? ", when it has them all," : "", " with `",
                    profile_command(arguments),
                    "` and give --profile profile.json, or give "
                    "--hardware NAME for a machine by its data sheet, such as --hardware a100-80g");
}

void check_plan_choices(const PlanInputArguments& arguments) {
  GIMBAL_USER_CHECK(
      !arguments.packs_per_step || !arguments.samples_per_step,
      "--packs-per-step and --samples-per-step: both say how large a step is; leave one out");
  GIMBAL_USER_CHECK(
      !arguments.packs_per_step ||
          (!arguments.search_caps && (!arguments.caps.empty() || !arguments.recipe.empty())),
      "--packs-per-step: counts packs of given caps; give --cap NAME=ROWS with it, or "
      "--samples-per-step N instead");
  GIMBAL_USER_CHECK(
      !arguments.stages_per_rank || !arguments.schedule ||
          *arguments.schedule == PipelineKind::kInterleaved,
      "--stages-per-rank: counts with the interleaved schedule only; give --schedule interleaved");
}

}  // namespace

PlanInputOptions::PlanInputOptions(CLI::App& app) {
  const auto option = [&app](const char* name, auto& value, const char* text, const char* help) {
    return app.add_option(name, value, help)->option_text(text);
  };
  const auto repeated = [&](const char* name, auto& value, const char* text, const char* help) {
    option(name, value, text, help)->allow_extra_args(false);
  };
  option("RECIPE", texts_.recipe, "FILE",
         "Recipe (YAML): its model, data, freeze, balance and parallel");
  option("KEY=VALUE", texts_.overrides, "...", "Options that replace those of the recipe");
  option("--stage", texts_.stage, "NAME", "Stage of a recipe with several");
  option("--model", texts_.model, "PATH",
         "Without a recipe: config.json, or the folder that holds one");
  option("--lengths", texts_.lengths, "FILE ...",
         "With --model: CSV, Parquet, .npy or .npz files, or a dataset folder");
  repeated("--freeze", texts_.freeze, "PATTERN",
           "With --model: blocks that are not trained, for example vision.* (repeatable)");
  option("--profile", texts_.profile, "FILE", "What blocks cost: profile.json of gimbal profile");
  option("--hardware", texts_.hardware, "NAME",
         "Or a machine by its data sheet: a100-80g, h100-80g, .., or a JSON file");
  option("--dtype", texts_.dtype, "NAME",
         "With --hardware: number format of activations [the recipe's, or bfloat16]");
  option("--devices", devices_, "N", "Devices [the product of the axes that are given]");
  option("--pp", pp_, "N", "Pipeline stages [the recipe's, or searched; so are the axes below]");
  option("--tp", tp_, "N", "Tensor parallel ranks");
  option("--sp", sp_, "N", "Sequence parallel ranks");
  option("--ep", ep_, "N", "Expert parallel ranks");
  option("--dp-shard", dp_shard_, "N", "Data parallel ranks that share the state");
  option("--dp-replicate", dp_replicate_, "N", "Data parallel ranks that hold copies");
  option("--schedule", schedule_, "NAME",
         "gpipe, 1f1b, interleaved or zb-h1 [the recipe's, or searched]");
  option("--stages-per-rank", stages_per_rank_, "N",
         "Stages of a rank when interleaved [the recipe's, or 2]");
  repeated("--cap", caps_, "NAME=ROWS|auto",
           "Most rows of a pack in stream text or vision (repeatable); auto: searched [the "
           "recipe's, or auto]");
  option("--oversize", oversize_, "error|reject",
         "With --lengths: samples above a cap stop the command, or are left out [error]");
  option("--samples-per-step", samples_per_step_, "N",
         "Samples of an optimizer step on all devices [the recipe's, or 128]");
  option("--packs-per-step", packs_per_step_, "N", "Packs of an optimizer step, with given caps");
  option(
      "--memory", memory_, "SIZE",
      "Memory of a device instead of the profile's, in GiB; or with K, M, G, T (powers of 1024), "
      "for example 512M or 512MiB");
  repeated("--without", without_, "PASS",
           "Switch off caps, mesh, schedules, partition, recompute or refine (repeatable)");
  option("--seed", seed_, "N", "Seed of the order of samples [the recipe's, or 0]");
}

PlanInputArguments PlanInputOptions::arguments(bool plan_given) const {
  PlanInputArguments arguments = texts_;
  if (!devices_.empty()) {
    arguments.devices = static_cast<int>(whole_number("--devices", devices_, 1, kMostDevices));
  }
  arguments.pp = axis_size("--pp", pp_);
  arguments.tp = axis_size("--tp", tp_);
  arguments.sp = axis_size("--sp", sp_);
  arguments.ep = axis_size("--ep", ep_);
  arguments.dp_shard = axis_size("--dp-shard", dp_shard_);
  arguments.dp_replicate = axis_size("--dp-replicate", dp_replicate_);
  if (!schedule_.empty()) arguments.schedule = pipeline_kind(schedule_);
  if (!stages_per_rank_.empty()) {
    arguments.stages_per_rank =
        static_cast<int>(whole_number("--stages-per-rank", stages_per_rank_, 2, 1024));
  }
  read_plan_caps(caps_, arguments);
  if (!oversize_.empty()) {
    GIMBAL_USER_CHECK(oversize_ == "error" || oversize_ == "reject", "--oversize: found '",
                      oversize_, "', expected error or reject");
    GIMBAL_USER_CHECK(arguments.recipe.empty(),
                      "--oversize: the recipe says what is done; "
                      "override it with balance.oversize=reject");
    GIMBAL_USER_CHECK(plan_given || !arguments.caps.empty(),
                      "--oversize: samples are held against given caps; "
                      "give --cap NAME=ROWS with it");
    arguments.reject = oversize_ == "reject";
  }
  if (!samples_per_step_.empty()) {
    arguments.samples_per_step = positive_number("--samples-per-step", samples_per_step_);
  }
  if (!packs_per_step_.empty()) {
    arguments.packs_per_step =
        whole_number("--packs-per-step", packs_per_step_, 1, std::uint64_t{1} << 31);
  }
  if (!memory_.empty()) arguments.memory_bytes = memory_size(memory_);
  read_passes(without_, arguments);
  if (!seed_.empty()) {
    arguments.seed = whole_number("--seed", seed_, 0, std::numeric_limits<std::uint64_t>::max());
  }
  check_plan_sources(arguments);
  check_plan_choices(arguments);
  return arguments;
}

}  // namespace gimbal::cli
