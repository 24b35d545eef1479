#include "gimbal/train/profile_run.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/cost/fit.h"
#include "gimbal/cost/model_fingerprint.h"
#include "gimbal/optim/adamw.h"
#include "gimbal/optim/clip.h"
#include "gimbal/profile/allocation_meter.h"
#include "gimbal/profile/gemm_peak.h"
#include "gimbal/profile/machine.h"
#include "gimbal/profile/memory.h"
#include "gimbal/profile/synthetic_batch.h"
#include "gimbal/train/trainer/parameter_groups.h"
#include "gimbal/train/weights.h"

namespace gimbal {
namespace {

/// A model of at most so many parameters is measured whole; of a larger one kBlocksPerClass of each
/// class, which are larger than caches.
constexpr std::int64_t kWholeModel = 30'000'000;
constexpr std::size_t kBlocksPerClass = 2;

std::vector<SampleShape> dataset_samples(const Dataset& dataset) {
  std::vector<SampleShape> shapes;
  for (std::size_t i = 0; i < dataset.num_samples(); ++i) {
    const SampleRecord& record = dataset.sample(i);
    shapes.push_back({record.num_tokens, record.vision_rows, record.num_loss_tokens});
  }
  return shapes;
}

std::vector<PackShape> packs_of(const Recipe& recipe, const Model& model) {
  const auto seed = static_cast<std::uint64_t>(recipe.train.seed);
  const PackRoom room{recipe.balance.text_cap, recipe.balance.vision_cap};
  if (recipe.data.train.empty())
    return choose_packs(typical_samples(model.desc, room, seed), room, seed);
  const Dataset dataset(recipe.data.train);
  check_dataset_fits(dataset, model, recipe.model.path);
  return choose_packs(dataset_samples(dataset), room, seed);
}

/// A part of the model with its store.
struct MeasuredModel {
  Model model;
  std::unique_ptr<ParameterStore> store;
};

MeasuredModel make_measured(const Recipe& recipe, const Runtime& runtime, Comm& alone,
                            bool only_first_trainable, const GroupOf& group_of) {
  MeasuredModel measured{make_model_of_folder(recipe.model.path), nullptr};
  Model& model = measured.model;
  if (model.num_parameters() > kWholeModel) shorten_model(model, kBlocksPerClass);
  if (only_first_trainable) {
    for (std::size_t i = 1; i < model.blocks.size(); ++i) {
      for (const ParameterPtr& parameter : model.blocks[i]->parameters())
        parameter->trainable = false;
    }
  }
  measured.store =
      make_replicated_store(model.blocks, alone, master_dtype(recipe.model.dtype),
                            compute_dtype(recipe.model.dtype), runtime.device, group_of);
  init_weights(*measured.store, static_cast<std::uint64_t>(recipe.train.seed));
  measured.store->values_changed();
  return measured;
}

/// What an optimizer step does besides the passes, as StepRunner does it: zeroing gradients, norm,
/// clipping, AdamW, new compute copies.
class OptimizerTimer {
 public:
  OptimizerTimer(const Recipe& recipe, MeasuredModel& measured, const ParameterGroups& groups,
                 const at::Device& device)
      : recipe_(recipe), measured_(measured), groups_(groups), device_(device) {}

  /// Seconds of a step that updates the first `num_blocks` blocks, the best of several.
  Measurement measure(std::size_t num_blocks) {
    constexpr int kRepeats = 7;
    std::vector<FlatShard> shards;
    for (std::size_t i = 0; i < num_blocks; ++i) {
      for (const FlatShard& shard : measured_.store->shards()) {
        if (shard.block == measured_.model.blocks[i]->name()) shards.push_back(shard);
      }
    }
    AdamW optimizer(shards, {});
    Measurement result;
    for (const FlatShard& shard : shards) result.rows += static_cast<double>(shard.values.numel());
    for (int i = 0; i < kRepeats; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      update(num_blocks, shards, optimizer);
      const double seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      // The first makes the moments.
      if (i == 1 || (i > 1 && seconds < result.value)) result.value = seconds;
    }
    return result;
  }

 private:
  void update(std::size_t num_blocks, std::vector<FlatShard>& shards, AdamW& optimizer) {
    for (FlatShard& shard : shards) shard.gradients.zero_();
    const at::Tensor norm = global_norm(shards);
    if (recipe_.optimizer.clip_norm > 0) clip_gradients(shards, norm, recipe_.optimizer.clip_norm);
    optimizer.step(groups_.rates(0));
    measured_.store->values_changed();
    for (std::size_t i = 0; i < num_blocks; ++i) {
      measured_.store->open(i, false);
      measured_.store->close(i);
    }
    norm.item<double>();
    synchronize();
  }
  void synchronize() const {
    if (!device_.is_cpu()) measured_.store->shards().front().values[0].item<double>();
  }

  const Recipe& recipe_;
  MeasuredModel& measured_;
  const ParameterGroups& groups_;
  at::Device device_;
};

void measure_optimizer(const Recipe& recipe, MeasuredModel& measured, const ParameterGroups& groups,
                       const at::Device& device, ProfileTable& table) {
  OptimizerTimer timer(recipe, measured, groups, device);
  const std::size_t num_blocks = measured.model.blocks.size();
  std::vector<Measurement> measurements;
  for (const std::size_t parts : {4, 2, 1}) {
    if (num_blocks / parts > 0) measurements.push_back(timer.measure(num_blocks / parts));
  }
  const FittedLine fitted = fit_line(measurements);
  table.optimizer_per_parameter = fitted.line.per_row;
  table.step_overhead = fitted.line.base;
}

/// The model or the optimizer state of such a run is not whole on the device.
bool is_divided(const ParallelConfig& parallel) {
  return parallel.pp > 1 || parallel.dp_shard > 1 || parallel.sp > 1 || parallel.tp > 1 ||
         parallel.offload_optimizer;
}

void describe_run(const ProfileRun& run, const Recipe& recipe, const Runtime& runtime,
                  std::vector<std::string>& notes) {
  notes.push_back(concat("measured in ", run.blocks.rounds, " rounds of ", run.blocks.packs.size(),
                         " packs of ",
                         recipe.data.train.empty() ? "typical samples" : recipe.data.train));
  if (run.blocks.dropped_tokens > 0) {
    notes.push_back(concat("packs of ", run.blocks.dropped_tokens,
                           " tokens and more were left out for lack of time: costs there continue "
                           "the line of the smaller ones"));
  }
  if (is_divided(recipe.parallel)) {
    notes.push_back(
        "parallel.* of the recipe was not used: blocks and optimizer were measured whole in each "
        "process, the costs that a mesh then divides");
  }
  const LaunchInfo& launch = runtime.launch;
  if (launch.world_size == 1) {
    notes.push_back("one process: links between devices were not measured");
  } else {
    notes.push_back(concat("links: every kind of message between ", launch.world_size,
                           " processes, fitted with one line"));
  }
}

}  // namespace

void shorten_model(Model& model, std::size_t most) {
  std::map<std::string, std::size_t> counts;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<BlockDesc> descriptions;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    if (++counts[model.desc.blocks[i].cost_class] > most) continue;
    blocks.push_back(std::move(model.blocks[i]));
    descriptions.push_back(model.desc.blocks[i]);
  }
  model.blocks = std::move(blocks);
  model.desc.blocks = std::move(descriptions);
}

ProfileRun profile_run(const Recipe& recipe, const ProfileRunOptions& options, Runtime& runtime) {
  GIMBAL_USER_CHECK(
      options.clock == PassClock::kWall || (runtime.device.is_cpu() && at::get_num_threads() == 1),
      "--clock cpu counts the time of one thread on the CPU; add train.threads=1 "
      "and train.device=cpu, or leave --clock out");
  const AllocationMeter meter(runtime.device);  // counts from here on
  const auto say = [&](const std::string& what, double share) {
    if (options.progress) options.progress(what, share);
  };
  ProfileRun run;
  ProfileTable& table = run.table;
  const Model whole = make_model_of_folder(recipe.model.path);
  table.origin = "measured";
  table.hardware = machine_name(runtime.device, at::get_num_threads());
  table.dtype = enum_name(recipe.model.dtype);
  table.value_bytes = static_cast<int>(c10::elementSize(compute_dtype(recipe.model.dtype)));
  table.model_type = whole.type;
  table.model_fingerprint = model_fingerprint(whole.desc);
  table.memory_bytes = machine_memory_bytes(runtime.device, runtime.launch.local_world_size);
  table.reserved_bytes =
      runtime.device.is_cpu() ? static_cast<double>(resident_bytes()) : 0.0;  // the libraries

  const std::vector<PackShape> packs = packs_of(recipe, whole);
  const std::unique_ptr<Comm> alone = make_single_comm();
  say("preparing the model", 0);
  const ParameterGroups groups(recipe.optimizer, whole.parameters());
  const GroupOf group_of = [&](const Parameter& parameter) { return groups.group_of(parameter); };
  MeasuredModel trained = make_measured(recipe, runtime, *alone, false, group_of);
  run.measured_blocks = trained.model.blocks.size();
  {
    MeasuredModel frozen = make_measured(recipe, runtime, *alone, true, group_of);
    TapeRunner runner(trained.model, *trained.store, &frozen.model, frozen.store.get(),
                      runtime.device, recipe.train.loss_chunk_rows, options.clock);
    MeasureOptions measure;
    measure.seconds = options.seconds;
    measure.seed = static_cast<std::uint64_t>(recipe.train.seed);
    measure.progress = [&](double share) { say("blocks", share); };
    const auto make_batch = [&](const PackShape& pack) {
      return to_device(synthetic_batch(pack, trained.model, measure.seed), runtime.device);
    };
    run.blocks = measure_blocks(runner, packs, make_batch, measure);
  }
  table.blocks = fit_blocks(trained.model.desc, run.blocks.packs, table.value_bytes);
  say("optimizer", 1);
  measure_optimizer(recipe, trained, groups, runtime.device, table);
  table.peak_flops =
      measure_gemm_peak(compute_dtype(recipe.model.dtype), runtime.device).flops_per_second;
  say("links", 1);
  runtime.comm->barrier("profile");
  run.links = measure_links(*runtime.comm);
  table.links =
      link_table(run.links.link, runtime.launch.world_size, runtime.launch.local_world_size);
  describe_run(run, recipe, runtime, table.notes);
  std::vector<WorkSize> works;
  for (const PackCosts& pack : run.blocks.packs) works.push_back(pack.work);
  run.warnings = too_few_sizes(trained.model.desc, works);
  table.notes.insert(table.notes.end(), run.warnings.begin(), run.warnings.end());
  return run;
}

}  // namespace gimbal
