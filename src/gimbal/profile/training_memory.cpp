// What a rank of a training run holds, from the description of its model.
#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/cost/cost_model.h"
#include "gimbal/nn/ops/gemm.h"
#include "gimbal/profile/memory.h"

namespace gimbal {
namespace {

/// Counts the bytes of one rank.
class RankBytes {
 public:
  RankBytes(const ModelDesc& model, const WorkSize& work, const MemorySetting& setting)
      : model_(model),
        setting_(setting),
        work_(work),
        own_work_(1.0 / (setting.sp * setting.tp) * work),
        embedding_(tied_embedding(model)) {
    GIMBAL_CHECK_EQ(setting.frozen.size(), model.blocks.size());
    GIMBAL_CHECK_EQ(setting.levels.size(), model.blocks.size());
    needs_ = gradient_needs(model, setting.frozen);
    stages_ = setting.stages;
    if (stages_.empty()) stages_.push_back({0, model.blocks.size()});
    for (const MemorySetting::Stage& stage : stages_) {
      for (std::size_t i = stage.begin; i < stage.end; ++i) held_blocks_.push_back(i);
    }
    tied_ = tied_use(model, held_blocks_);
    if (tied_ == TiedUse::kCopy) held_blocks_.push_back(embedding_);
    for (const std::size_t i : held_blocks_) {
      copies_ += parameters(i) * setting.compute_bytes;
      if (!setting.frozen[i]) gradients_ += parameters(i) * setting.master_bytes;
    }
  }

  MemoryEstimate state() const {
    const double master = setting_.master_bytes, shards = setting_.dp_shard;
    MemoryEstimate estimate;
    for (const std::size_t i : held_blocks_) {
      const double values = parameters(i);
      estimate.parameter_bytes += values * master / shards;
      // Blocks use the master values themselves, or a copy in another dtype or gathered from
      // shards.
      if (setting_.dp_shard == 1 && setting_.compute_bytes != setting_.master_bytes)
        estimate.parameter_bytes += values * setting_.compute_bytes;
      if (setting_.frozen[i]) continue;
      estimate.gradient_bytes += values * master / shards;
      estimate.optimizer_bytes += values * 2 * master / shards;
    }
    return estimate;
  }

  double peak() const {
    std::vector<double> saved, running;  // of one micro-batch, per stage; its peak there
    for (const MemorySetting::Stage& stage : stages_) {
      saved.push_back(0), running.push_back(0);
      for (std::size_t i = stage.begin; i < stage.end; ++i) {
        saved.back() += saved_bytes(i);
        if (i + 1 == stage.end) saved.back() += output_bytes(i);
        running.back() =
            std::max(running.back(), saved.back() + moment_bytes(i) + sharded_bytes(i));
      }
    }
    double peak = 0;
    std::vector<std::vector<int>> moments = setting_.held;
    if (moments.empty()) moments.emplace_back(stages_.size(), 1);
    for (const std::vector<int>& moment : moments) {
      GIMBAL_CHECK_EQ(moment.size(), stages_.size());
      double all = 0;
      for (std::size_t s = 0; s < stages_.size(); ++s) all += moment[s] * saved[s];
      for (std::size_t s = 0; s < stages_.size(); ++s) {
        if (moment[s] > 0) peak = std::max(peak, all - saved[s] + running[s]);
      }
    }
    return peak + message_bytes();
  }

 private:
  bool weights_trained(std::size_t block) const {
    const bool borrows =
        model_.blocks[block].kind == BlockKind::kTextHead && model_.tied_embeddings;
    if (!borrows) return !setting_.frozen[block];
    return embedding_ < model_.blocks.size() && !setting_.frozen[embedding_];
  }
  bool has_backward(std::size_t block) const {
    const bool head = model_.blocks[block].kind == BlockKind::kTextHead;
    return needs_[block].weights || needs_[block].inputs || (head && weights_trained(block));
  }

  /// Of the block itself, on this tensor-parallel rank.
  double parameters(std::size_t block) const {
    const BlockDesc& desc = model_.blocks[block];
    return rank_dense_parameters(desc, setting_.tp) +
           static_cast<double>(desc.num_expert_parameters) / setting_.tp;
  }
  /// That it computes with: a tied head uses the embedding's.
  double used_parameters(std::size_t block) const {
    const bool borrows = model_.blocks[block].kind == BlockKind::kTextHead &&
                         model_.tied_embeddings && embedding_ < model_.blocks.size();
    return parameters(block) + (borrows ? parameters(embedding_) : 0);
  }

  double saved_bytes(std::size_t block) const {
    if (!has_backward(block)) return 0;
    const double values = rank_saved_values(model_.blocks[block], work_, setting_.levels[block],
                                            setting_.sp, setting_.tp);
    return (values + kept_head_gradient(block)) * setting_.compute_bytes;
  }

  /// Values of the head's weight, its rows cut over tp.
  double head_weight(std::size_t head) const {
    return static_cast<double>(model_.vocab_size) / setting_.tp *
           model_.blocks.at(head - 1).output_values_per_row;
  }
  /// Of the weight's gradient that a head keeps from its forward, which makes it, to its backward.
  /// Where backward is split (ZB-H1) the input gradients follow at once and free it: no micro-batch
  /// under way has it besides the one that runs.
  double kept_head_gradient(std::size_t block) const {
    const bool keeps = model_.blocks[block].kind == BlockKind::kTextHead && weights_trained(block);
    return keeps && !setting_.split_backward ? head_weight(block) : 0;
  }

  /// The last block of a stage keeps its result as long as its graph; elsewhere it is the next
  /// block's input.
  double output_bytes(std::size_t block) const {
    const Recompute level = setting_.levels[block];
    const bool keeps = level == Recompute::kKeep ||
                       (level == Recompute::kAttention && model_.blocks[block].parts.size() == 2);
    return keeps && has_backward(block) ? cut_bytes(block + 1) : 0;
  }

  /// Of a message over the cut before the block; 0 where there is none.
  double cut_bytes(std::size_t block) const {
    if (block == 0 || block >= model_.blocks.size()) return 0;
    return cut_values(model_, block - 1, own_work_) * setting_.compute_bytes;
  }

  double message_bytes() const {
    double before = 0, after = 0;
    for (const MemorySetting::Stage& stage : stages_) {
      before = std::max(before, cut_bytes(stage.begin));
      after = std::max(after, cut_bytes(stage.end));
    }
    return message_buffer_bytes(before, after, setting_.pp);
  }

  double moment_bytes(std::size_t block) const {
    const BlockDesc& desc = model_.blocks[block];
    const double compute = setting_.compute_bytes;
    double moment = 0;
    if (has_backward(block)) {
      moment =
          (rank_recomputed_values(desc, work_, setting_.levels[block], setting_.sp, setting_.tp) +
           gradient_values(desc)) *
          compute;
      // Gradients of parameters in the compute dtype, until they are added to the step's.
      if (setting_.compute_bytes != setting_.master_bytes && needs_[block].weights)
        moment += parameters(block) * compute;
      // That of an embedding has all rows, whatever the batch; to be added it is widened whole.
      if (desc.kind == BlockKind::kTextEmbed && needs_[block].weights)
        moment += parameters(block) * setting_.master_bytes;
    } else {
      for (const PartDesc& part : desc.parts)
        moment = std::max(moment, part.saved_values_per_row * work_rows(desc, own_work_) * compute);
    }
    if (desc.kind == BlockKind::kTextHead) moment = std::max(moment, head_forward_bytes(block));
    return moment;
  }

  /// Gradients of activations while the block's backward runs: of its output, of its input, and of
  /// what lies between, half of which autograd has freed when the other half has its gradients.
  /// The inputs of products that wait for weight gradients are not freed: about half of that half.
  double gradient_values(const BlockDesc& block) const {
    double between = 0;
    for (const PartDesc& part : block.parts)
      between = std::max(between, part.saved_values_per_row - part.input_values_per_row);
    const double alive = setting_.split_backward ? 0.75 : 0.5;
    return (2 * block.output_values_per_row + alive * between) * work_rows(block, own_work_);
  }

  /// The head computes a few rows of logits at a time, in the compute dtype and in float32, and
  /// adds up the weight's gradient in float32 (nn/loss/chunked_loss.cpp). Without what saved_bytes
  /// has.
  double head_forward_bytes(std::size_t head) const {
    const double wide = std::max(setting_.compute_bytes, 4);
    const double both = setting_.compute_bytes < 4 ? setting_.compute_bytes + wide : wide;
    // The vocabulary is cut over tp ranks, which have the rows of all of them.
    const double vocab = static_cast<double>(model_.vocab_size) / setting_.tp;
    const double rows =
        std::min(work_.loss_rows / setting_.sp, static_cast<double>(setting_.loss_chunk_rows));
    double bytes = rows * vocab * both;
    if (!weights_trained(head)) return bytes;
    // The sum and the product that is added to it, in the compute dtype and as float32.
    const double weight = head_weight(head);
    bytes += weight * (wide + both) - kept_head_gradient(head) * setting_.compute_bytes;
    // The product reads the logits transposed.
    if (setting_.compute_bytes == 4 &&
        gemm_copies_transposed(static_cast<std::int64_t>(vocab),
                               static_cast<std::int64_t>(weight / vocab),
                               static_cast<std::int64_t>(rows))) {
      bytes += rows * vocab * wide;
    }
    return bytes;
  }

  /// Gathered weights, and whole gradients that are not reduced yet, while the block runs.
  double sharded_bytes(std::size_t block) const {
    if (setting_.dp_shard == 1) return 0;
    const double compute = setting_.compute_bytes, master = setting_.master_bytes;
    // With one backward the gradient of a weight that embedding and head share waits from the
    // head's to the embedding's; the head has none of its own then.
    const bool tied_waits = tied_ == TiedUse::kBoth && !setting_.reshard;
    const auto gradient = [&](std::size_t i) {
      return weights_trained(i) ? (tied_waits ? parameters(i) : used_parameters(i)) * master : 0;
    };
    const double waiting = tied_waits && block > embedding_ && !setting_.frozen[embedding_]
                               ? parameters(embedding_) * master
                               : 0;
    // The block that backward has run before this one, whose gradient is being reduced.
    const bool has_next = is_own(block + 1);
    double copies = copies_, gradients = gradients_;
    if (setting_.reshard) {
      const double before = block > 0 && is_own(block - 1) ? used_parameters(block - 1) : 0;
      const double behind = has_next ? used_parameters(block + 1) : 0;
      const double ahead = setting_.prefetch ? std::max(before, behind) : 0;
      copies = std::min(copies, (used_parameters(block) + ahead) * compute);
    }
    if (setting_.reshard || setting_.micro_batches == 1) {
      // With what arrives from the other ranks.
      const double arriving = 2 - 1.0 / setting_.dp_shard;
      gradients =
          std::min(gradients * arriving,
                   waiting + gradient(block) + (has_next ? arriving * gradient(block + 1) : 0));
    }
    return copies + gradients;
  }
  bool is_own(std::size_t block) const {
    return std::ranges::any_of(stages_, [block](const MemorySetting::Stage& stage) {
      return stage.begin <= block && block < stage.end;
    });
  }

  const ModelDesc& model_;
  const MemorySetting& setting_;
  WorkSize work_, own_work_;  // of the pack; of this rank
  std::size_t embedding_;     // tied_embedding
  TiedUse tied_ = TiedUse::kPlain;
  std::vector<GradientNeed> needs_;
  std::vector<MemorySetting::Stage> stages_;
  std::vector<std::size_t> held_blocks_;  // whose parameters it has
  double copies_ = 0, gradients_ = 0;     // bytes of these: the compute copies, whole gradients
};

}  // namespace

MemoryEstimate estimate_training_memory(const ModelDesc& model, const WorkSize& work,
                                        const MemorySetting& setting) {
  const RankBytes bytes(model, work, setting);
  MemoryEstimate estimate = bytes.state();
  estimate.activation_bytes = bytes.peak();
  return estimate;
}

double peak_activation_bytes(const ModelDesc& model, const WorkSize& work,
                             const MemorySetting& setting) {
  return RankBytes(model, work, setting).peak();
}

}  // namespace gimbal
