#include "gimbal/train/tape/forward_runner.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include "gimbal/base/error.h"
#include "gimbal/train/tape/tape.h"

namespace gimbal {
namespace {

/// One batch through this rank's stages.
class ForwardStages : public StageRunner {
 public:
  ForwardStages(const Model& model, ParameterStore& store, const RunLayout& layout,
                const PassContext& context, at::ScalarType dtype)
      : model_(model), store_(store), layout_(layout), context_(context), dtype_(dtype) {}

  Flow forward(int stage, int, Flow in) override {
    Flow out = run_forward(model_, store_, context_, range(stage), std::move(in));
    if (range(stage).end == model_.blocks.size()) last_ = out;
    return out;
  }
  Flow backward(int, int, Flow) override { throw InternalError("backward of a forward pass"); }
  Flow backward_input(int, int, Flow) override {
    throw InternalError("backward of a forward pass");
  }
  void backward_weight(int, int) override { throw InternalError("backward of a forward pass"); }
  StageBoundary boundary(int stage, int) const override {
    FlowShape shape;
    for (std::size_t i = 0; i < range(stage).end; ++i)
      shape = model_.blocks[i]->output_shape(context_.batch, shape);
    return {shape, dtype_, false};
  }

  const Flow& last() const { return last_; }

 private:
  const BlockRange& range(int stage) const {
    return layout_.stages.at(static_cast<std::size_t>(stage));
  }

  const Model& model_;
  ParameterStore& store_;
  const RunLayout& layout_;
  const PassContext& context_;
  at::ScalarType dtype_;
  Flow last_;
};

/// Rows of the logits that the head sets.
std::int64_t num_logits(const PassContext& context) {
  const auto& cu = context.batch.text_cu_seqlens;
  if (context.kind == PassKind::kAllLogits) return context.batch.num_tokens();
  return cu.empty() ? 0 : static_cast<std::int64_t>(cu.size()) - 1;
}

}  // namespace

ForwardRunner::ForwardRunner(const Model& model, ParameterStore& store)
    : model_(model), store_(store) {}

ForwardRunner::ForwardRunner(const Model& model, ParameterStore& store, const Placement& placement,
                             at::ScalarType dtype)
    : model_(model), store_(store), placement_(&placement), dtype_(dtype) {}

Flow ForwardRunner::run(const PassContext& context) const {
  if (placement_ == nullptr || placement_->layout().stages.size() == 1)
    return run_forward(model_, store_, context);
  const RunLayout& layout = placement_->layout();
  ForwardStages stages(model_, store_, layout, context, dtype_);
  run_schedule(layout.make(1), placement_->pipeline_groups(), stages, {}, /*forward_only=*/true);
  Flow result = stages.last();
  if (context.kind == PassKind::kLoss) return result;
  // Every rank of the pipeline chooses the next tokens by itself.
  const std::int64_t rows = num_logits(context);
  if (!result.logits.defined())
    result.logits =
        at::empty({rows, model_.vocab_size},
                  at::TensorOptions().dtype(dtype_).device(context.batch.token_ids_T.device()));
  GIMBAL_CHECK_EQ(result.logits.size(0), rows);
  if (rows == 0) return result;
  Comm& pipeline = placement_->mesh().pp_forward();
  result.logits = result.logits.contiguous();
  pipeline.broadcast(result.logits, pipeline.size() - 1, "logits")->wait();
  return result;
}

bool ForwardRunner::needs_equal_counts() const {
  return placement_ != nullptr && placement_->layout().mesh.dp_shard > 1;
}

bool ForwardRunner::any(bool value) const {
  if (!needs_equal_counts()) return value;
  Comm& shard = placement_->mesh().shard();
  const at::Tensor count =
      at::full({1}, value ? 1.0 : 0.0, at::TensorOptions(at::kFloat)).to(shard.device());
  shard.all_reduce_sum(count, "answers under way")->wait();
  return count.item<float>() > 0;
}

}  // namespace gimbal
