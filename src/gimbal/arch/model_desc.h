// A model as data: its blocks with parameters, work and activations, without tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/base/units.h"
#include "gimbal/config/recipe.h"

namespace gimbal {

enum class BlockKind {
  kVisionEmbed,
  kVisionLayer,
  kProjector,
  kTextEmbed,
  kTextLayer,
  kTextNorm,
  kTextHead
};

/// Rows that a micro-batch brings: what every cost is a function of. Linear: the sum (or mean) of
/// sizes is the size of the sum (or mean).
struct WorkSize {
  double text_rows = 0;     // tokens, visual ones included
  double text_pairs = 0;    // sum over samples of rows^2
  double loss_rows = 0;     // rows that the head computes
  double vision_rows = 0;   // tiles (InternVL, LLaVA) or patches (Qwen-VL): ModelDesc::vision_row
  double vision_pairs = 0;  // sum over images of rows^2; 0 where rows are tiles
};
WorkSize operator+(const WorkSize& a, const WorkSize& b);
WorkSize operator*(double factor, const WorkSize& work);

/// One of the sequential parts of a block (a layer: attention, then feed-forward). Work is counted
/// with a multiply-add as 2. Causal attention needs half of the pairs: attention_flops_per_pair
/// contains that factor 1/2. Norms, activations, rotations and lookups count nothing.
struct PartDesc {
  std::string name;                    // "attention", "mlp", or "all" for a block of one part
  double product_flops_per_row = 0;    // products with weights
  double attention_flops_per_row = 0;  // attention inside a tile or a window: no weights
  double attention_flops_per_pair = 0;
  double input_values_per_row = 0;  // what the part has to keep to be recomputed
  double saved_values_per_row = 0;  // what is kept for backward otherwise, input included
  // Of these, what the ranks that share a pack do not simply divide (rank_saved_values).
  double gathered_values_per_row = 0;   // inputs of products whose columns tp cuts
  double attended_values_per_row = 0;   // attention's result
  double key_value_values_per_row = 0;  // keys and values
  std::int64_t num_key_value_heads = 0;
};

/// A block of a model. Rows are tiles or patches, text rows, or loss rows, by `kind`.
struct BlockDesc {
  std::string name;
  BlockKind kind = BlockKind::kTextLayer;
  /// Blocks of the same class cost the same: "vision_embed", "vision_layer",
  /// "vision_window_layer", "vision_deepstack_layer", "projector", "text_embed", "text_layer",
  /// "text_moe_layer", "text_norm", "text_head".
  std::string cost_class;
  std::int64_t num_parameters = 0;         // owned; a tied head owns none
  std::int64_t num_expert_parameters = 0;  // of these, in routed experts (sharded by ep)
  /// Of these, outside of products and vocabulary: each tensor-parallel rank has all of them.
  std::int64_t num_uncut_parameters = 0;
  /// Of these, projections of keys and values with their biases: each tensor-parallel rank has all
  /// of them where tp does not divide the key-value heads (PartDesc::num_key_value_heads).
  std::int64_t num_key_value_parameters = 0;
  std::vector<PartDesc> parts;       // 1 or 2
  double output_values_per_row = 0;  // of the stream the block writes, per row of its kind
  /// Values per vision row that later blocks still need besides the output, alive after this block
  /// (DeepStack features of Qwen3-VL).
  double carried_values_per_vision_row = 0;
  /// Tensor parallel: all-reduces of the output's size per forward pass (2 for a layer).
  int tensor_reductions = 0;
  /// Rows that attend to each other need all of them: Ulysses exchanges q, k, v and the result.
  double exchanged_values_per_row = 0;
  /// Routed experts: values that one row sends to experts and gets back (J * D each way).
  double dispatched_values_per_row = 0;
  /// Runs, but nothing uses its result (the last layer of LLaVA's tower): it has no backward.
  bool unused = false;

  double flops_per_row() const;   // forward, all parts
  double flops_per_pair() const;  // forward, all parts
};

struct ModelDesc {
  std::string type;  // model_type of config.json
  std::vector<BlockDesc> blocks;
  std::string vision_row;            // "tile", "patch", or empty for a text model
  double tokens_per_vision_row = 0;  // visual tokens of the text that one vision row becomes
  std::int64_t vocab_size = 0;
  std::int64_t max_positions = 0;
  bool tied_embeddings = false;
  // What tensor, sequence and expert parallelism must divide; 0 where there is none.
  std::int64_t text_heads = 0, text_kv_heads = 0, text_ffn = 0;
  std::int64_t vision_heads = 0, vision_ffn = 0;
  std::int64_t num_experts = 0;

  std::int64_t num_parameters() const;
};

/// The rows that the block works on: vision rows, text rows or loss rows.
double work_rows(const BlockDesc& block, const WorkSize& work);
/// The pairs of its stream; 0 for blocks whose rows do not attend.
double work_pairs(const BlockDesc& block, const WorkSize& work);

/// What backward computes for a block.
struct GradientNeed {
  bool weights = true;  // false: frozen
  bool inputs = true;   // false: nothing trainable before it
};
/// Per block: frozen blocks have no weight gradients; blocks at the front up to the first trainable
/// one need no input gradients; frozen ones there have no backward at all. The first trainable
/// block is counted with input gradients unless it is an embedding of tokens or pixels. Blocks
/// whose result is not used need nothing.
std::vector<GradientNeed> gradient_needs(const ModelDesc& model, const std::vector<bool>& frozen);

Flops forward_flops(const BlockDesc& block, const WorkSize& work);
/// Products cost once for the input gradient and once for the weight gradient; attention, which has
/// no weights, twice for its inputs as soon as any gradient flows through the block.
Flops backward_flops(const BlockDesc& block, const WorkSize& work, const GradientNeed& need);
/// Forward + backward of all blocks, without recompute (model FLOPs).
Flops training_flops(const ModelDesc& model, const WorkSize& work, const std::vector<bool>& frozen);

/// Recompute levels that differ for this block: {keep, attention, mlp, full} for two parts, {keep,
/// full} for one, {keep} for a block that keeps nothing worth it (embeddings, head).
std::vector<Recompute> recompute_levels(const BlockDesc& block);
/// Forward work done again in backward.
Flops recompute_flops(const BlockDesc& block, const WorkSize& work, Recompute level);
/// Activation values kept from forward to backward. A level that the block does not have counts as
/// full.
double saved_values(const BlockDesc& block, const WorkSize& work, Recompute level);
/// The same of one of sp x tp ranks that share the pack (`work`: of the whole pack). Each has its
/// share of all values, and more of some: the input of products whose columns tp cuts has all rows
/// of the sequence part (Korthikanti et al. 2022); attention's result is kept before and after sp
/// exchanges it (Jacobs et al. 2023); with fewer key-value heads than ranks each rank has a whole
/// head's.
double rank_saved_values(const BlockDesc& block, const WorkSize& work, Recompute level, int sp,
                         int tp);
/// Parameters of the block, routed experts not counted, on one of tp ranks. Those that are cut
/// count in equal shares, though whole heads may make one rank's larger than another's.
double rank_dense_parameters(const BlockDesc& block, int tp);
/// Values kept for a moment on top while the block's backward runs: those of the recomputed parts.
double recomputed_values(const BlockDesc& block, const WorkSize& work, Recompute level);
double rank_recomputed_values(const BlockDesc& block, const WorkSize& work, Recompute level, int sp,
                              int tp);

/// Values that a pipeline cut after block `index` sends forward: the block's output, and what later
/// blocks need besides it (visual rows that wait for the text embedding, carried features).
double cut_values(const ModelDesc& model, std::size_t index, const WorkSize& work);

/// The embedding whose weight a tied head uses; the number of blocks where nothing is tied.
std::size_t tied_embedding(const ModelDesc& model);
/// What a rank has of a weight that embedding and head share.
enum class TiedUse {
  kPlain,  // nothing is tied, or the rank does not have the head
  kCopy,   // the head alone: a copy, with gradient and moments
  kBoth    // embedding and head: one weight, one gradient
};
/// Of the rank that runs `blocks`.
TiedUse tied_use(const ModelDesc& model, const std::vector<std::size_t>& blocks);

}  // namespace gimbal
