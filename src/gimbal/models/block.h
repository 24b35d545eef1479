// The unit of a model: what is profiled, cut, sharded, recomputed, traced and named in checkpoints.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/models/flow.h"
#include "gimbal/models/flow_shape.h"
#include "gimbal/nn/attention/kv_cache.h"
#include "gimbal/nn/parameter.h"
#include "gimbal/tensor/batch.h"

namespace gimbal {

/// What the forward pass is for.
enum class PassKind {
  kLoss,       // training and evaluation: the head sets flow.loss from batch.loss_rows_Q
  kAllLogits,  // the head sets flow.logits of every text row
  kNextLogits  // generation: the head sets flow.logits of the last row of each sequence; attention
               // uses and fills `cache`
};

struct PassContext {
  const Batch& batch;
  PassKind kind = PassKind::kLoss;
  KvCache* cache = nullptr;
  std::int64_t loss_chunk_rows = 1024;
};

class Block {
 public:
  explicit Block(std::string name) : name_(std::move(name)) {}
  virtual ~Block() = default;
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  /// Reads only `context`, the flow and its bound parameters; keeps no state. Zero rows in a stream
  /// are valid.
  virtual Flow forward(const PassContext& context, const Flow& in) const = 0;

  /// Parts that forward runs one after another, as arch counts them (BlockDesc::parts): each can be
  /// recomputed without the others.
  virtual int num_parts() const { return 1; }
  /// Runs one part on what the part before has returned (the first: on the block's input).
  virtual Flow forward_part(int part, const PassContext& context, const Flow& in) const {
    GIMBAL_CHECK_EQ(part, 0);
    return forward(context, in);
  }

  /// The tiles of a batch of `num_tiles` whose pixels forward reads on this rank: the batch need
  /// not have others.
  virtual TileRange tiles_read(std::int64_t /*num_tiles*/) const { return {}; }

  /// Shapes of what forward returns for a batch; reads its counts only, no tensors.
  virtual FlowShape output_shape(const Batch& batch, const FlowShape& in) const = 0;

  const std::string& name() const { return name_; }
  /// The parameters that this block owns.
  const std::vector<ParameterPtr>& parameters() const { return list_.all(); }
  /// Parameters of other blocks that forward uses as well (tied embeddings).
  const std::vector<ParameterPtr>& borrowed() const { return borrowed_; }

 protected:
  ParameterList list_;
  std::vector<ParameterPtr> borrowed_;

 private:
  std::string name_;
};

/// A transformer layer: norm + attention + residual, then norm + feed-forward + residual.
class LayerBlock : public Block {
 public:
  using Block::Block;
  Flow forward(const PassContext& context, const Flow& in) const final {
    return forward_part(1, context, forward_part(0, context, in));
  }
  int num_parts() const final { return 2; }
  Flow forward_part(int part, const PassContext& context, const Flow& in) const final {
    GIMBAL_CHECK(part == 0 || part == 1, "a layer has no part ", part);
    return part == 0 ? forward_attention(context, in) : forward_mlp(context, in);
  }

 private:
  virtual Flow forward_attention(const PassContext& context, const Flow& in) const = 0;
  virtual Flow forward_mlp(const PassContext& context, const Flow& in) const = 0;
};

}  // namespace gimbal
