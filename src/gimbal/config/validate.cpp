#include <set>

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/config/load.h"

namespace gimbal {
namespace {

// Collects `key: problem` lines.
class Checks {
 public:
  template <typename T>
  void at_least(const char* key, T value, T least) {
    if (!(value >= least)) add(key, "is ", value, "; must be at least ", least);
  }

  void above_zero(const std::string& key, double value) {
    if (!(value > 0)) add(key, "is ", value, "; must be above 0");
  }

  void not_negative(const std::string& key, double value) {
    if (!(value >= 0)) add(key, "is ", value, "; must not be negative");
  }

  void within(const char* key, double value, double least, double most) {
    if (!(value >= least && value <= most)) {
      add(key, "is ", value, "; must be from ", least, " to ", most);
    }
  }

  void patterns(const std::string& key, const std::vector<std::string>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i].empty()) add(concat(key, "[", i, "]"), "is an empty pattern");
    }
  }

  template <typename... Args>
  void add(const std::string& key, Args&&... text) {
    lines_.push_back(concat(key, ": ", std::forward<Args>(text)...));
  }

  std::vector<std::string> take() { return std::move(lines_); }

 private:
  std::vector<std::string> lines_;
};

constexpr std::int64_t kZero = 0;
constexpr std::int64_t kOne = 1;

void check_prepare(const PrepareConfig& prepare, Checks& checks) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < prepare.sources.size(); ++i) {
    const SourceConfig& source = prepare.sources[i];
    const std::string key = concat("prepare.sources[", i, "]");
    if (source.name.empty()) checks.add(key, "has no name");
    if (!source.name.empty() && !names.insert(source.name).second) {
      checks.add(key + ".name", "'", source.name, "' is the name of two sources");
    }
    if (source.files.empty()) checks.add(key, "has no files");
    checks.patterns(key + ".files", source.files);
    checks.not_negative(key + ".weight", source.weight);
  }
  checks.at_least("prepare.max_tokens", prepare.max_tokens, kZero);
  checks.at_least("prepare.workers", prepare.workers, kZero);
}

void check_model(const ModelConfig& model, Checks& checks) {
  checks.patterns("model.freeze", model.freeze);
  checks.patterns("model.recompute_blocks", model.recompute_blocks);
  if (model.recompute == Recompute::kKeep && !model.recompute_blocks.empty()) {
    checks.add("model.recompute_blocks", "has no effect with model.recompute: keep; use full");
  }
  for (std::size_t i = 0; i < model.recompute_groups.size(); ++i) {
    if (model.recompute_groups[i].blocks.empty())
      checks.add(concat("model.recompute_groups[", i, "].blocks"), "has no value");
  }
}

void check_data(const DataConfig& data, const BalanceConfig& balance, Checks& checks) {
  for (const auto& [name, weight] : data.weights) {
    checks.not_negative("data.weights." + name, weight);
  }
  checks.at_least("data.workers", data.workers, kOne);
  checks.at_least("data.prefetch_packs", data.prefetch_packs, kOne);
  checks.at_least("balance.text_cap", balance.text_cap, kOne);
  checks.at_least("balance.vision_cap", balance.vision_cap, kZero);
  checks.at_least("balance.packs_per_step", balance.packs_per_step, kOne);
  checks.at_least("balance.micro_batches", balance.micro_batches, kZero);
  checks.at_least("balance.samples_per_pack", balance.samples_per_pack, kZero);
  checks.at_least("balance.packs_per_slot", balance.packs_per_slot, kZero);
  if (balance.packs_per_slot > 0 && balance.packs_per_step % balance.packs_per_slot != 0) {
    checks.add("balance.packs_per_slot", "is ", balance.packs_per_slot,
               "; must divide balance.packs_per_step (", balance.packs_per_step, ")");
  }
  const bool in_groups =
      balance.method == BalanceMethod::kRandom || balance.method == BalanceMethod::kLength;
  if (in_groups && balance.samples_per_pack == 0) {
    checks.add("balance.samples_per_pack",
               "is 0; must be at least 1 with balance.method: ", enum_name(balance.method));
  }
}

void check_optimizer(const OptimizerConfig& optimizer, Checks& checks) {
  checks.not_negative("optimizer.lr", optimizer.lr);
  checks.at_least("optimizer.warmup_steps", optimizer.warmup_steps, kZero);
  checks.within("optimizer.min_lr_ratio", optimizer.min_lr_ratio, 0, 1);
  // At 1 the mean never moves and its bias correction divides by 0.
  for (const auto& [key, beta] : {std::pair{"optimizer.beta1", optimizer.beta1},
                                  std::pair{"optimizer.beta2", optimizer.beta2}}) {
    if (!(beta >= 0 && beta < 1)) checks.add(key, "is ", beta, "; must be from 0 to below 1");
  }
  checks.above_zero("optimizer.eps", optimizer.eps);
  checks.not_negative("optimizer.weight_decay", optimizer.weight_decay);
  checks.not_negative("optimizer.clip_norm", optimizer.clip_norm);
  for (std::size_t i = 0; i < optimizer.groups.size(); ++i) {
    const std::string key = concat("optimizer.groups[", i, "]");
    if (optimizer.groups[i].pattern.empty()) checks.add(key + ".pattern", "has no value");
    checks.not_negative(key + ".lr_scale", optimizer.groups[i].lr_scale);
  }
}

/// "1 block", "2 blocks".
std::string counted_things(std::int64_t count, const char* word) {
  return concat(count, " ", word, count == 1 ? "" : "s");
}

/// `has_plan`: a plan says how many stages there are, and is held against what the recipe sets.
void check_parallel(const ParallelConfig& parallel, bool has_plan, Checks& checks) {
  checks.at_least("parallel.pp", parallel.pp, kOne);
  checks.at_least("parallel.dp_replicate", parallel.dp_replicate, kZero);
  checks.at_least("parallel.dp_shard", parallel.dp_shard, kOne);
  checks.at_least("parallel.sp", parallel.sp, kOne);
  checks.at_least("parallel.tp", parallel.tp, kOne);
  checks.at_least("parallel.stages_per_rank", parallel.stages_per_rank, kOne);
  const bool interleaved = parallel.schedule == PipelineChoice::kInterleaved;
  if (parallel.stages_per_rank > 1 && !interleaved) {
    checks.add("parallel.stages_per_rank", "is ", parallel.stages_per_rank,
               ", which needs parallel.schedule: interleaved");
  }
  if (interleaved && parallel.pp > 1 && parallel.stages_per_rank == 1) {
    checks.add("parallel.schedule",
               "interleaved needs parallel.stages_per_rank of at least 2; with 1 it is 1f1b that "
               "may have to add empty micro-batches");
  }
  checks.patterns("parallel.stage_starts", parallel.stage_starts);
  const auto num_starts = static_cast<std::int64_t>(parallel.stage_starts.size());
  const std::int64_t num_stages = parallel.pp * parallel.stages_per_rank;
  if (num_starts > 0 && num_starts != num_stages - 1 && !has_plan) {
    checks.add("parallel.stage_starts", "names ", counted_things(num_starts, "block"), "; ",
               counted_things(num_stages, "stage"), " (parallel.pp x parallel.stages_per_rank) ",
               num_stages == 1 ? "has none to name: leave it out, or raise parallel.pp"
                               : concat("need the first block of each but the first, which makes ",
                                        num_stages - 1));
  }
}

void check_run(const Recipe& recipe, Checks& checks) {
  const TrainConfig& train = recipe.train;
  checks.at_least("train.seed", train.seed, kZero);
  checks.at_least("train.max_steps", train.max_steps, kZero);
  checks.not_negative("train.epochs", train.epochs);
  if (train.max_steps == 0 && train.epochs == 0) {
    checks.add("train.epochs", "and train.max_steps are both 0: nothing to train");
  }
  checks.at_least("train.threads", train.threads, kZero);
  checks.at_least("train.loss_chunk_rows", train.loss_chunk_rows, kOne);
  checks.at_least("train.max_bad_steps", train.max_bad_steps, kOne);
  checks.above_zero("train.timeout_seconds", train.timeout_seconds);
  checks.at_least("evaluate.every_steps", recipe.evaluate.every_steps, kZero);
  checks.at_least("evaluate.max_samples", recipe.evaluate.max_samples, kZero);
  checks.at_least("evaluate.max_new_tokens", recipe.evaluate.max_new_tokens, kOne);
  checks.at_least("evaluate.text_cap", recipe.evaluate.text_cap, kZero);
  if (recipe.evaluate.every_steps > 0 && recipe.data.eval.empty()) {
    checks.add("evaluate.every_steps", "needs a dataset in data.eval");
  }
  checks.at_least("checkpoint.every_steps", recipe.checkpoint.every_steps, kZero);
  checks.at_least("checkpoint.keep_last", recipe.checkpoint.keep_last, kOne);
  checks.at_least("checkpoint.keep_every", recipe.checkpoint.keep_every, kZero);
  checks.at_least("log.every_steps", recipe.log.every_steps, kOne);
}

}  // namespace

std::vector<std::string> validate(const Recipe& recipe) {
  Checks checks;
  if (recipe.name.empty() || recipe.name.find('/') != std::string::npos) {
    checks.add("name", "'", recipe.name, "' must be a word without /");
  }
  check_prepare(recipe.prepare, checks);
  check_model(recipe.model, checks);
  check_data(recipe.data, recipe.balance, checks);
  check_optimizer(recipe.optimizer, checks);
  check_parallel(recipe.parallel, !recipe.train.plan.empty(), checks);
  check_run(recipe, checks);
  return checks.take();
}

}  // namespace gimbal
