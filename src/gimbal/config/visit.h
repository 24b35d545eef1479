// One function per recipe struct: calls v(name, field, help) for each field, in the order of the
// recipe. Reading, overriding, writing and describing recipes all go through here, so a new option
// needs one line in recipe.h and one here.
#pragma once

#include <concepts>
#include <type_traits>

#include "gimbal/config/recipe.h"

namespace gimbal {

/// S is T or const T.
template <typename S, typename T>
concept MaybeConst = std::same_as<std::remove_const_t<S>, T>;

void visit(MaybeConst<SourceConfig> auto& self, auto&& v) {
  v("name", self.name, "Name in reports and in data.weights.");
  v("files", self.files, "JSONL or Parquet files.");
  v("weight", self.weight, "How often its samples are drawn, relative to the other sources.");
  v("media_root", self.media_root, "Folder that media paths start from. Empty: the file's folder.");
}

void visit(MaybeConst<PrepareConfig> auto& self, auto&& v) {
  v("out", self.out, "Dataset folder to write.");
  v("sources", self.sources, "Sets of files, each with a name and a weight.");
  v("max_tokens", self.max_tokens, "Longer samples are rejected. 0: no limit.");
  v("workers", self.workers, "Processes. 0: one per core.");
  v("strict", self.strict, "Stop at the first unusable sample instead of listing it.");
}

void visit(MaybeConst<RecomputeGroupConfig> auto& self, auto&& v) {
  v("blocks", self.blocks, "Block names, with *. The first group that matches counts.");
  v("level", self.level, "Recompute level of these blocks.");
}

void visit(MaybeConst<ModelConfig> auto& self, auto&& v) {
  v("path", self.path, "Hugging Face model folder.");
  v("init", self.init, "Weights to start from: those of the folder, or random ones.");
  v("dtype", self.dtype, "Number format of activations and of the weights in computations.");
  v("freeze", self.freeze, "Patterns (with *) of blocks or parameters that are not trained.");
  v("recompute", self.recompute,
    "What backward computes again to save memory: nothing, attention, the MLP, or whole blocks.");
  v("recompute_blocks", self.recompute_blocks,
    "Patterns of the blocks that model.recompute is for. Empty: all.");
  v("recompute_groups", self.recompute_groups, "Blocks with a level other than model.recompute.");
}

void visit(MaybeConst<DataConfig> auto& self, auto&& v) {
  v("train", self.train, "Dataset folder to train on.");
  v("eval", self.eval, "Dataset folder to evaluate on. Empty: no evaluation.");
  v("weights", self.weights, "Weight of a source, by name. Absent: as prepared.");
  v("workers", self.workers, "Threads per process that read and decode.");
  v("prefetch_packs", self.prefetch_packs, "Packs that are made ready ahead of use.");
}

void visit(MaybeConst<BalanceConfig> auto& self, auto&& v) {
  v("method", self.method,
    "How samples are put into packs. isf, bfd, random and length are for comparison.");
  v("text_cap", self.text_cap, "Most tokens in a pack.");
  v("vision_cap", self.vision_cap, "Most vision rows in a pack. 0: no cap.");
  v("packs_per_step", self.packs_per_step,
    "Packs of an optimizer step, of all processes together.");
  v("packs_per_slot", self.packs_per_slot,
    "Packs that are made alike, because they run at the same time. 0: all of a step.");
  v("micro_batches", self.micro_batches, "Parts that a pack is run in. 0: one per sample.");
  v("samples_per_pack", self.samples_per_pack,
    "Most samples in a pack. 0: no limit (not with methods random and length).");
  v("oversize", self.oversize,
    "Samples above a cap: stop, leave them out, or give each a pack of its own.");
}

void visit(MaybeConst<ParameterGroupConfig> auto& self, auto&& v) {
  v("pattern", self.pattern, "Parameter names, with *. The first group that matches counts.");
  v("lr_scale", self.lr_scale, "Factor on optimizer.lr.");
  v("weight_decay", self.weight_decay, "Weight decay. Negative: as optimizer.weight_decay.");
}

void visit(MaybeConst<OptimizerConfig> auto& self, auto&& v) {
  v("lr", self.lr, "Highest learning rate.");
  v("schedule", self.schedule, "Shape of the learning rate after the warm-up.");
  v("warmup_steps", self.warmup_steps, "Steps of linear growth from 0 to lr.");
  v("min_lr_ratio", self.min_lr_ratio, "Last learning rate as a part of lr (linear, cosine).");
  v("beta1", self.beta1, "AdamW: decay of the mean of gradients.");
  v("beta2", self.beta2, "AdamW: decay of the mean of squared gradients.");
  v("eps", self.eps, "AdamW: added to the root of the mean of squares.");
  v("weight_decay", self.weight_decay, "Decoupled weight decay.");
  v("decay_norms_and_biases", self.decay_norms_and_biases, "Decay vectors (norms, biases) too.");
  v("clip_norm", self.clip_norm, "Largest global norm of the gradient. 0: no clipping.");
  v("groups", self.groups, "Parameters with their own learning rate or weight decay.");
}

void visit(MaybeConst<TrainConfig> auto& self, auto&& v) {
  v("run", self.run, "Run folder: checkpoints, metrics, resolved recipe.");
  v("plan", self.plan, "plan.json of gimbal plan, to be followed. Empty: none.");
  v("seed", self.seed, "Seed of the order of samples and of random weights.");
  v("max_steps", self.max_steps, "Optimizer steps. 0: by epochs.");
  v("epochs", self.epochs, "Passes over the data when max_steps is 0.");
  v("device", self.device, "Where to compute. auto: a GPU if there is one.");
  v("threads", self.threads, "CPU threads per process. 0: the machine's cores divided up.");
  v("loss_chunk_rows", self.loss_chunk_rows, "Rows of logits that exist at a time.");
  v("max_bad_steps", self.max_bad_steps,
    "Steps in a row with a non-finite loss or gradient before the run stops.");
  v("resume", self.resume, "Go on from the run folder's last checkpoint if there is one.");
  v("timeout_seconds", self.timeout_seconds, "Longest wait for the other processes.");
}

void visit(MaybeConst<ParallelConfig> auto& self, auto&& v) {
  v("pp", self.pp, "Pipeline stages, or ranks with several stages each.");
  v("dp_replicate", self.dp_replicate,
    "Copies of the sharded model. 0: the processes that the other axes leave.");
  v("dp_shard", self.dp_shard, "Ranks that share a copy's weights and optimizer state (FSDP).");
  v("sp", self.sp, "Ranks that share the rows of each pack (Ulysses).");
  v("tp", self.tp, "Ranks that share each product (tensor parallel).");
  v("schedule", self.schedule, "Order of work in a pipeline.");
  v("stages_per_rank", self.stages_per_rank, "Above 1: with schedule interleaved.");
  v("stage_starts", self.stage_starts,
    "First block of each stage but the first. Empty: stages of equal work.");
  v("weights", self.weights,
    "Sharded weights between uses: stay gathered for the step, or are freed and gathered again.");
  v("prefetch", self.prefetch, "Gather the next block's weights while one runs.");
  v("offload_optimizer", self.offload_optimizer, "Optimizer state in the memory of the host.");
}

void visit(MaybeConst<EvaluateConfig> auto& self, auto&& v) {
  v("every_steps", self.every_steps, "Steps between evaluations. 0: at the end only.");
  v("max_samples", self.max_samples, "Samples to evaluate. 0: all.");
  v("max_new_tokens", self.max_new_tokens, "Longest generated answer.");
  v("text_cap", self.text_cap, "Most tokens in a pack. 0: as balance.text_cap.");
  v("generate", self.generate, "Generate answers and count exact matches, besides the loss.");
}

void visit(MaybeConst<CheckpointConfig> auto& self, auto&& v) {
  v("every_steps", self.every_steps, "Steps between checkpoints. 0: at the end only.");
  v("keep_last", self.keep_last, "Newest checkpoints to keep.");
  v("keep_every", self.keep_every, "Checkpoints of these steps are kept, too. 0: none.");
  v("background", self.background, "Write checkpoints while training goes on.");
  v("export_hf", self.export_hf, "Write a Hugging Face model folder, RUN/hf, at the end.");
}

void visit(MaybeConst<LogConfig> auto& self, auto&& v) {
  v("every_steps", self.every_steps, "Steps between progress lines.");
}

void visit(MaybeConst<Recipe> auto& self, auto&& v) {
  v("name", self.name, "Name of the run.");
  v("prepare", self.prepare, "Raw data to dataset folder (gimbal prepare)");
  v("model", self.model, "The model");
  v("data", self.data, "Dataset folders and how they are read");
  v("balance", self.balance, "How samples are packed");
  v("optimizer", self.optimizer, "AdamW and its learning rate");
  v("train", self.train, "The run");
  v("parallel", self.parallel, "How the processes share the work");
  v("evaluate", self.evaluate, "Evaluation on data.eval");
  v("checkpoint", self.checkpoint, "Saving");
  v("log", self.log, "Progress output");
}

/// A struct that a visit() exists for.
template <typename T>
concept Visited = requires(T& value) {
  visit(value, [](const char*, auto&, const char*) {});
};

}  // namespace gimbal
