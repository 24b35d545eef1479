#include <ATen/Parallel.h>
#include <sched.h>
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
#include "gimbal/train/report/transport_warnings.h"
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

/// By number; empty where the system does not tell.
std::vector<int> cores_of_process() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  return cores;
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
    facts_.cores = cores_of_process();
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

/// What all ranks know before their links are tested.
struct DoctorFacts {
  std::vector<ExaminedRank> ranks;
  MeshShape shape;           // whose links are tested
  bool is_asked_for = true;  // and not put in the place of one that does not fit
  Json machine;
  std::vector<std::string> problems, warnings;
};

/// Collective. The mesh is that of rank 0: all have to make the same groups.
DoctorFacts gather_facts(Runtime& runtime, RankExamination& examination) {
  Json own = to_json(examination.facts());
  own["mesh"] = Json::array();
  if (const auto& mesh = examination.shape())
    own["mesh"] = {mesh->pp, mesh->dp_replicate, mesh->dp_shard, mesh->sp, mesh->tp};
  DoctorFacts facts;
  Json axes;
  for (const std::string& text : all_gather_bytes(*runtime.comm, own.dump(), "facts")) {
    const Json json = Json::parse(text);
    if (facts.ranks.empty()) axes = json["mesh"];
    facts.ranks.push_back(examined_rank_from(json));
  }
  facts.is_asked_for = !axes.empty();
  facts.shape.dp_replicate = runtime.comm->size();
  if (facts.is_asked_for) {
    const auto size = axes.get<std::vector<int>>();
    facts.shape = MeshShape{size[0], size[1], size[2], size[3], size[4]};
  }
  for (std::size_t rank = 0; rank < facts.ranks.size(); ++rank)
    facts.ranks[rank].place = mesh_place(facts.shape, static_cast<int>(rank));
  facts.machine = machine_facts(runtime);
  facts.problems = find_problems(facts.ranks);
  facts.warnings = find_warnings(facts.ranks);
  return facts;
}

/// What comes out when the groups of the mesh are made and used.
struct DoctorLinks {
  std::vector<MeshLink> links;
  std::vector<std::string> problems, warnings;
};

/// Collective.
DoctorLinks test_links(Runtime& runtime, const DoctorFacts& found) {
  DoctorLinks tested;
  tested.links = measure_mesh_links(*runtime.groups, found.shape);
  tested.problems = find_link_problems(tested.links);
  const std::vector<std::string> troubles = all_gather_bytes(
      *runtime.comm, runtime.groups->shared_memory_trouble(), "shared memory trouble");
  std::vector<RankTransport> transports;
  for (std::size_t rank = 0; rank < troubles.size(); ++rank)
    transports.push_back({found.ranks[rank].host, troubles[rank]});
  tested.warnings = transport_warnings(transports);
  return tested;
}

std::vector<std::string> joined_lists(std::vector<std::string> first,
                                      const std::vector<std::string>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

void print_json(const DoctorFacts& found, const DoctorLinks& tested) {
  Json facts = found.machine;
  facts["mesh"] = to_string(found.shape);
  facts["ranks"] = Json::array();
  for (const ExaminedRank& rank : found.ranks)
    facts["ranks"].push_back({{"host", rank.host}, {"device", rank.device}, {"place", rank.place}});
  facts["links"] = Json::array();
  for (const MeshLink& link : tested.links) {
    facts["links"].push_back({{"axis", link.axis},
                              {"ranks", link.ranks},
                              {"latency_seconds", link.latency},
                              {"bytes_per_second", link.bytes_per_second},
                              {"transport", link.transport},
                              {"right", link.right}});
  }
  facts["problems"] = joined_lists(found.problems, tested.problems);
  facts["warnings"] = joined_lists(found.warnings, tested.warnings);
  facts["ok"] = facts["problems"].empty();
  std::cout << facts.dump() << std::endl;
}

void print_list(const char* title, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  std::cout << "\n" << title << ":\n";
  for (const std::string& line : lines) std::cout << "  " << line << "\n";
}

/// What is wrong with the mesh and the ranks comes before the links, which may take a while.
void print_facts(const DoctorFacts& found) {
  for (const auto& [key, value] : found.machine.items()) {
    const bool speed = key.starts_with("gemm");
    std::cout << key << ": "
              << (speed ? format_quantity(value.get<double>()) + "FLOP/s" : value.dump()) << "\n";
  }
  std::cout << "mesh: " << to_string(found.shape)
            << (found.is_asked_for ? "" : " (the one asked for cannot be made: see Problems)")
            << "\n\n"
            << describe_ranks(found.ranks);
  print_list("Problems", found.problems);
  print_list("Warnings", found.warnings);
  std::cout << std::flush;
}

void print_links(const DoctorFacts& found, const DoctorLinks& tested) {
  if (!tested.links.empty()) std::cout << "\n" << describe_links(tested.links);
  print_list("Problems of the links", tested.problems);
  print_list("Warnings of the links", tested.warnings);
  std::cout << "\n"
            << describe_outcome(found.problems.size() + tested.problems.size(),
                                found.warnings.size() + tested.warnings.size())
            << std::endl;
}

}  // namespace

int run_doctor(const Arguments& arguments) {
  const DoctorOptions options = parse_doctor(arguments);
  DoctorRecipe recipe = read_doctor_recipe(options);
  Runtime runtime = make_doctor_runtime(recipe.stages);
  RankExamination examination(options, std::move(recipe), runtime);
  const DoctorFacts found = gather_facts(runtime, examination);
  const bool prints_text = runtime.is_main() && !options.json;
  if (prints_text) print_facts(found);
  const DoctorLinks tested = test_links(runtime, found);
  if (prints_text) print_links(found, tested);
  if (runtime.is_main() && options.json) print_json(found, tested);
  runtime.comm->barrier("end of doctor");
  return found.problems.empty() && tested.problems.empty() ? 0 : 1;
}

}  // namespace gimbal::cli
