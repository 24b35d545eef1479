#include <ATen/Parallel.h>
#include <torch/version.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <functional>
#include <iostream>
#include <optional>
#include <thread>

#include "apps/cli/run/command.h"
#include "apps/cli/run/doctor_report.h"
#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/base/sha256.h"
#include "gimbal/config/load.h"
#include "gimbal/data/dataset.h"
#include "gimbal/profile/gemm_peak.h"
#include "gimbal/profile/mesh_links.h"
#include "gimbal/train/build.h"
#include "gimbal/train/layout/follow_plan.h"
#include "gimbal/train/layout/run_layout.h"
#include "gimbal/train/preflight.h"
#include "gimbal/train/report/progress.h"
#include "gimbal/train/tape/block_levels.h"

namespace gimbal::cli {
namespace {

/// A connection that does not answer for so long does not work, unless the recipe says otherwise.
constexpr double kLinkTimeout = 60;

struct DoctorOptions {
  std::string recipe;
  std::vector<std::string> overrides;
  bool json = false;
};

DoctorOptions parse_doctor(const Arguments& arguments) {
  CLI::App app;
  DoctorOptions options;
  app.add_option("--recipe", options.recipe);
  app.add_flag("--json", options.json);
  app.add_option("overrides", options.overrides);
  app.parse(Arguments(arguments.rbegin(), arguments.rend()));
  return options;
}

std::string host_of_process() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

/// The stages of the recipe, or what is wrong with it.
struct DoctorRecipe {
  std::vector<StageRecipe> stages;
  std::vector<std::string> problems;
};

DoctorRecipe read_doctor_recipe(const DoctorOptions& options) {
  try {
    return {load_recipe(options.recipe, options.overrides), {}};
  } catch (const UserError& error) {
    return {{}, {error.what()}};
  }
}

/// The device and threads that training would have. A recipe that leaves the timeout open should
/// not make a dead link cost the ten minutes that training gives it.
Runtime make_doctor_runtime(const std::vector<StageRecipe>& stages) {
  if (stages.empty()) return make_runtime(DeviceKind::kAuto, 0, kLinkTimeout);
  const StageRecipe& first = stages.front();
  const TrainConfig& train = first.recipe.train;
  const bool given = first.given.contains("train.timeout_seconds");
  return make_runtime(train.device, train.threads, given ? train.timeout_seconds : kLinkTimeout);
}

/// Throws what training would throw about the recipe's stages, tp and sp for its model.
void check_model_layout(const Recipe& recipe, int world_size) {
  const auto model = model_for_training(recipe);
  LayoutWork work;  // without rows: where the cuts are does not matter here
  work.frozen = frozen_blocks(model);
  work.levels = block_levels(recipe.model, model.desc);
  make_run_layout(recipe.parallel, model.desc, work, world_size, recipe.model.path);
}

/// What one rank sees. Mistakes are collected: a rank that threw would leave the others waiting.
class RankExamination {
 public:
  RankExamination(const DoctorOptions& options, DoctorRecipe recipe, const Runtime& runtime) {
    const int world_size = runtime.comm->size();
    facts_.host = host_of_process();
    facts_.device = runtime.device.str();
    facts_.common = {{"program", GIMBAL_VERSION}, {"libtorch", TORCH_VERSION}};
    facts_.problems = std::move(recipe.problems);
    for (const StageRecipe& stage : recipe.stages) {
      attempt([&] {
        const PlannedStage planned = follow_plan(stage, world_size);
        const Recipe& options_of_stage = planned.stage.recipe;
        const MeshShape mesh = mesh_of_processes(options_of_stage.parallel, world_size);
        // Of a run in stages, the links of the first are measured.
        if (&stage == &recipe.stages.front()) shape_ = mesh;
        if (!options_of_stage.model.path.empty()) check_model_layout(options_of_stage, world_size);
      });
    }
    // Overrides alone are a recipe too, and ranks may have been given unlike ones.
    if (!options.recipe.empty() || !options.overrides.empty()) read_inputs(recipe.stages);
  }

  ExaminedRank& facts() { return facts_; }
  const std::optional<MeshShape>& shape() const { return shape_; }

 private:
  void attempt(const std::function<void()>& work) {
    try {
      work();
    } catch (const UserError& error) {
      // Stages share their options, and so their mistakes.
      const std::string problem = error.what();
      if (std::ranges::find(facts_.problems, problem) == facts_.problems.end())
        facts_.problems.push_back(problem);
    }
  }

  void read_inputs(const std::vector<StageRecipe>& stages) {
    std::string datasets, plans;
    for (const StageRecipe& stage : stages) {
      const Recipe& recipe = stage.recipe;
      for (const std::string& folder : {recipe.data.train, recipe.data.eval}) {
        if (!folder.empty()) attempt([&] { datasets += Dataset(folder).fingerprint() + " "; });
      }
      if (!recipe.train.plan.empty())
        attempt([&] { plans += sha256_of_file(recipe.train.plan) + " "; });
    }
    facts_.common.emplace_back("recipe", sha256_of(to_yaml(stages)));
    if (!datasets.empty()) facts_.common.emplace_back("dataset", datasets);
    if (!plans.empty()) facts_.common.emplace_back("plan", plans);
  }

  ExaminedRank facts_;
  std::optional<MeshShape> shape_;
};

Json machine_facts(const Runtime& runtime) {
  return {
      {"gimbal", GIMBAL_VERSION},
      {"torch", TORCH_VERSION},
      {"device", runtime.device.str()},
      {"processes", runtime.comm->size()},
      {"launcher", runtime.launch.launcher},
      {"cores", std::thread::hardware_concurrency()},
      {"threads", at::get_num_threads()},
      {"gemm_peak_float32", measure_gemm_peak(at::kFloat, runtime.device).flops_per_second},
      {"gemm_peak_bfloat16", measure_gemm_peak(at::kBFloat16, runtime.device).flops_per_second}};
}

/// Every rank's facts, and the mesh as rank 0 sees it: all have to make the same groups.
std::vector<ExaminedRank> gather_facts(Runtime& runtime, RankExamination& examination,
                                       MeshShape& shape) {
  Json own = to_json(examination.facts());
  own["mesh"] = Json::array();
  if (const auto& mesh = examination.shape())
    own["mesh"] = {mesh->pp, mesh->dp_replicate, mesh->dp_shard, mesh->sp, mesh->tp};
  std::vector<ExaminedRank> ranks;
  Json axes;
  for (const std::string& text : all_gather_bytes(*runtime.comm, own.dump(), "facts")) {
    const Json json = Json::parse(text);
    if (ranks.empty()) axes = json["mesh"];
    ranks.push_back(examined_rank_from(json));
  }
  shape = MeshShape{};
  shape.dp_replicate = runtime.comm->size();
  if (!axes.empty()) {
    const auto size = axes.get<std::vector<int>>();
    shape = MeshShape{size[0], size[1], size[2], size[3], size[4]};
  }
  for (std::size_t rank = 0; rank < ranks.size(); ++rank)
    ranks[rank].place = mesh_place(shape, static_cast<int>(rank));
  return ranks;
}

void print_json(const Json& machine, const MeshShape& shape, const std::vector<ExaminedRank>& ranks,
                const std::vector<MeshLink>& links, const std::vector<std::string>& problems) {
  Json facts = machine;
  facts["mesh"] = to_string(shape);
  facts["ranks"] = Json::array();
  for (const ExaminedRank& rank : ranks)
    facts["ranks"].push_back({{"host", rank.host}, {"device", rank.device}, {"place", rank.place}});
  facts["links"] = Json::array();
  for (const MeshLink& link : links) {
    facts["links"].push_back({{"axis", link.axis},
                              {"ranks", link.ranks},
                              {"latency_seconds", link.latency},
                              {"bytes_per_second", link.bytes_per_second},
                              {"right", link.right}});
  }
  facts["problems"] = problems;
  facts["ok"] = problems.empty();
  std::cout << facts.dump() << std::endl;
}

void print_text(const Json& facts, const MeshShape& shape, const std::vector<ExaminedRank>& ranks,
                const std::vector<MeshLink>& links, const std::vector<std::string>& problems) {
  for (const auto& [key, value] : facts.items()) {
    const bool speed = key.starts_with("gemm");
    std::cout << key << ": "
              << (speed ? format_quantity(value.get<double>()) + "FLOP/s" : value.dump()) << "\n";
  }
  std::cout << "mesh: " << to_string(shape) << "\n" << describe_ranks_and_links(ranks, links);
  std::cout << (problems.empty() ? "\nAll is well.\n" : "\nProblems:\n");
  for (const std::string& problem : problems) std::cout << "  " << problem << "\n";
  std::cout << std::flush;
}

}  // namespace

int run_doctor(const Arguments& arguments) {
  const DoctorOptions options = parse_doctor(arguments);
  DoctorRecipe recipe = read_doctor_recipe(options);
  Runtime runtime = make_doctor_runtime(recipe.stages);
  RankExamination examination(options, std::move(recipe), runtime);
  MeshShape shape;
  const std::vector<ExaminedRank> ranks = gather_facts(runtime, examination, shape);
  const std::vector<MeshLink> links = measure_mesh_links(*runtime.groups, shape);
  const Json facts = machine_facts(runtime);
  const std::vector<std::string> problems = find_problems(ranks, links);
  if (runtime.is_main()) {
    (options.json ? print_json : print_text)(facts, shape, ranks, links, problems);
  }
  runtime.comm->barrier("end of doctor");
  return problems.empty() ? 0 : 1;
}

}  // namespace gimbal::cli
