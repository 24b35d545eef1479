// The user's recipe: plain structs with defaults. visit.h lists every field with its name and help
// text.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gimbal {

enum class DType { kFloat32, kBFloat16, kFloat64 };
enum class WeightInit { kPretrained, kRandom };
/// What of a block is computed again in backward instead of kept: nothing, its attention part, its
/// feed-forward part, or all of it.
enum class Recompute { kKeep, kAttention, kMlp, kFull };
enum class ScheduleKind { kConstant, kLinear, kCosine };
enum class BalanceMethod { kGimbal, kIsf, kBestFitDecreasing, kRandom, kLength };
enum class OversizeChoice { kError, kReject, kAlone };
enum class DeviceKind { kAuto, kCpu, kCuda };
/// In which order a pipeline's ranks run their work; schedule/ has the same.
enum class PipelineChoice { kGpipe, kOneFOneB, kInterleaved, kZeroBubble };
/// What sharded weights do when no block uses them: stay gathered for the step, or are freed after
/// each use and gathered again.
enum class WeightsChoice { kKeep, kReshard };

/// One set of files with one weight, read by `gimbal prepare`.
struct SourceConfig {
  std::string name;
  std::vector<std::string> files;
  double weight = 1.0;
  std::string media_root;  // empty: the folder of the file
};

struct PrepareConfig {
  std::string out;
  std::vector<SourceConfig> sources;
  std::int64_t max_tokens = 0;  // 0: no limit
  std::int64_t workers = 0;     // 0: one per core
  bool strict = false;
};

/// Blocks with a recompute level of their own.
struct RecomputeGroupConfig {
  std::string blocks;  // pattern
  Recompute level = Recompute::kFull;
};

struct ModelConfig {
  std::string path;
  WeightInit init = WeightInit::kPretrained;
  DType dtype = DType::kFloat32;
  std::vector<std::string> freeze;  // block or parameter name patterns with *
  Recompute recompute = Recompute::kKeep;
  std::vector<std::string> recompute_blocks;           // patterns; empty: all blocks
  std::vector<RecomputeGroupConfig> recompute_groups;  // the first that matches a block counts
};

struct DataConfig {
  std::string train;                      // dataset folder
  std::string eval;                       // dataset folder; empty: no evaluation
  std::map<std::string, double> weights;  // per source; absent: as in the manifest
  std::int64_t workers = 1;
  std::int64_t prefetch_packs = 4;
};

struct BalanceConfig {
  BalanceMethod method = BalanceMethod::kGimbal;
  std::int64_t text_cap = 4096;
  std::int64_t vision_cap = 0;  // 0: no cap
  std::int64_t packs_per_step = 1;
  std::int64_t packs_per_slot = 0;    // packs that are made alike; 0: all of a step
  std::int64_t micro_batches = 1;     // micro-batches that each pack is run in; 0: one per sample
  std::int64_t samples_per_pack = 0;  // 0: no limit
  OversizeChoice oversize = OversizeChoice::kError;
};

/// Learning rate and weight decay of the parameters whose names match.
struct ParameterGroupConfig {
  std::string pattern;
  double lr_scale = 1.0;
  double weight_decay = -1.0;  // negative: as optimizer.weight_decay
};

struct OptimizerConfig {
  double lr = 1e-4;
  ScheduleKind schedule = ScheduleKind::kCosine;
  std::int64_t warmup_steps = 0;
  double min_lr_ratio = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.01;
  bool decay_norms_and_biases = false;
  double clip_norm = 1.0;  // 0: no clipping
  std::vector<ParameterGroupConfig> groups;
};

struct TrainConfig {
  std::string run;   // run folder
  std::string plan;  // plan.json to follow; empty: none
  std::int64_t seed = 0;
  std::int64_t max_steps = 0;  // 0: by epochs
  double epochs = 1.0;
  DeviceKind device = DeviceKind::kAuto;
  std::int64_t threads = 0;  // per process; 0: cores / processes on the machine
  std::int64_t loss_chunk_rows = 1024;
  std::int64_t max_bad_steps = 5;  // non-finite steps in a row before the run stops
  bool resume = true;
  double timeout_seconds = 600;
};

/// How the processes of a run share the work.
struct ParallelConfig {
  std::int64_t pp = 1;
  std::int64_t dp_replicate = 0;  // 0: the processes that the other axes leave
  std::int64_t dp_shard = 1;
  std::int64_t sp = 1;
  std::int64_t tp = 1;
  PipelineChoice schedule = PipelineChoice::kOneFOneB;
  std::int64_t stages_per_rank = 1;       // above 1: interleaved
  std::vector<std::string> stage_starts;  // first block of each stage but the first; empty: by work
  WeightsChoice weights = WeightsChoice::kKeep;
  bool prefetch = true;            // gather the next block's weights while one runs
  bool offload_optimizer = false;  // optimizer state in the memory of the host
};

struct EvaluateConfig {
  std::int64_t every_steps = 0;  // 0: at the end only
  std::int64_t max_samples = 0;  // 0: all
  std::int64_t max_new_tokens = 64;
  std::int64_t text_cap = 0;  // 0: as balance.text_cap
  bool generate = true;
};

struct CheckpointConfig {
  std::int64_t every_steps = 0;  // 0: at the end only
  std::int64_t keep_last = 2;
  std::int64_t keep_every = 0;  // steps; checkpoints of these multiples are kept; 0: none
  bool background = true;       // write while training goes on
  bool export_hf = true;        // write RUN/hf at the end
};

struct LogConfig {
  std::int64_t every_steps = 10;
};

struct Recipe {
  std::string name = "run";
  PrepareConfig prepare;
  ModelConfig model;
  DataConfig data;
  BalanceConfig balance;
  OptimizerConfig optimizer;
  TrainConfig train;
  ParallelConfig parallel;
  EvaluateConfig evaluate;
  CheckpointConfig checkpoint;
  LogConfig log;
};

/// A recipe is run stage by stage; each stage is the base recipe with its own overrides and starts
/// from the weights of the one before. A recipe without `stages` has one stage, named like the
/// recipe.
struct StageRecipe {
  std::string name;
  Recipe recipe;
  /// Keys that the recipe file or the command line set, with the place: "recipe.yaml:3:5". All
  /// others have their defaults.
  std::map<std::string, std::string> given = {};
};

}  // namespace gimbal
