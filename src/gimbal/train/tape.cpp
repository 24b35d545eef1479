#include "gimbal/train/tape.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::size_t kNumTensors = Flow::kNumTensors;

/// Keeps a block open; closes it also when the block throws.
class OpenBlock {
 public:
  OpenBlock(ParameterStore& store, std::size_t block, bool backward)
      : store_(store), block_(block) {
    store.open(block, backward);
  }
  ~OpenBlock() { store_.close(block_); }
  OpenBlock(const OpenBlock&) = delete;
  OpenBlock& operator=(const OpenBlock&) = delete;

 private:
  ParameterStore& store_;
  std::size_t block_;
};

bool has_trainable(const Block& block) {
  const auto trainable = [](const ParameterPtr& parameter) { return parameter->trainable; };
  return std::ranges::any_of(block.parameters(), trainable) ||
         std::ranges::any_of(block.borrowed(), trainable);
}

/// Leaves on the same storage; those whose source needs a gradient ask for one.
Flow detached(const Flow& flow, const std::array<bool, kNumTensors>& needs_gradient) {
  Flow result;
  for (std::size_t k = 0; k < kNumTensors; ++k) {
    const at::Tensor& source = *flow.tensors()[k];
    if (!source.defined()) continue;
    at::Tensor& leaf = *result.tensors()[k];
    leaf = source.detach();
    if (needs_gradient[k] && at::isFloatingType(leaf.scalar_type())) leaf.requires_grad_(true);
  }
  return result;
}

/// The input that the block handed on as it is; -1 for a tensor that it made.
int passed_input(const at::Tensor& output, const Flow& inputs) {
  for (std::size_t k = 0; k < kNumTensors; ++k) {
    const at::Tensor& input = *inputs.tensors()[k];
    if (input.defined() && output.is_same(input)) return static_cast<int>(k);
  }
  return -1;
}

void add_gradient(at::Tensor& sum, const at::Tensor& gradient) {
  if (!gradient.defined()) return;
  sum = sum.defined() ? sum + gradient : gradient;
}

}  // namespace

/// Parts of a block that are recorded together.
struct Tape::Segment {
  int begin = 0, end = 0;  // parts
  bool keep = true;
  Flow inputs;   // leaves
  Flow outputs;  // with the parts' graph; empty when they are recomputed

  Flow forward(const Block& block, const PassContext& context) const {
    Flow flow = inputs;
    for (int part = begin; part < end; ++part) flow = block.forward_part(part, context, flow);
    return flow;
  }
};

Tape::Tape(const Model& model, ParameterStore& store, std::vector<Recompute> levels)
    : model_(model), store_(store), levels_(std::move(levels)) {
  GIMBAL_CHECK_EQ(levels_.size(), model.blocks.size());
  while (first_recorded_ < model.blocks.size() && !has_trainable(*model.blocks[first_recorded_])) {
    ++first_recorded_;
  }
}

Tape::~Tape() = default;

void Tape::observe(std::size_t block, bool backward, bool begin) const {
  if (observer_) observer_(block, backward, begin);
}

at::Tensor Tape::forward(const PassContext& context) {
  GIMBAL_CHECK(context.kind == PassKind::kLoss && context.cache == nullptr,
               "the tape records training passes only");
  records_.clear();
  context_.emplace(context);
  Flow flow;
  for (std::size_t i = 0; i < model_.blocks.size(); ++i) {
    const OpenBlock open(store_, i, /*backward=*/false);
    observe(i, /*backward=*/false, /*begin=*/true);
    flow = run_block(i, std::move(flow));
    observe(i, /*backward=*/false, /*begin=*/false);
  }
  GIMBAL_CHECK(flow.loss.defined() && flow.loss.dim() == 0, "the last block set no loss");
  loss_ = flow.loss.detach();
  return loss_;
}

Flow Tape::run_block(std::size_t block, Flow flow) {
  const Block& code = *model_.blocks[block];
  if (block < first_recorded_) {
    c10::NoGradGuard no_grad;
    return code.forward(*context_, flow);
  }
  Record record;
  const Recompute level = levels_[block];
  const int parts = code.num_parts();
  if (level == Recompute::kKeep || level == Recompute::kFull || parts == 1) {
    record.push_back({0, parts, level == Recompute::kKeep, {}, {}});
  } else {
    GIMBAL_CHECK_EQ(parts, 2);
    record.push_back({0, 1, level != Recompute::kAttention, {}, {}});
    record.push_back({1, 2, level != Recompute::kMlp, {}, {}});
  }
  for (Segment& segment : record) flow = run_segment(block, segment, std::move(flow));
  records_.push_back(std::move(record));
  return flow;
}

Flow Tape::run_segment(std::size_t block, Segment& segment, Flow flow) {
  std::array<bool, kNumTensors> needs_gradient{};
  for (std::size_t k = 0; k < needs_gradient.size(); ++k) {
    needs_gradient[k] = flow.tensors()[k]->requires_grad();
  }
  segment.inputs = detached(flow, needs_gradient);
  flow = Flow();  // the previous segment's outputs live on in its record
  c10::AutoGradMode grad_mode(segment.keep);
  Flow outputs = segment.forward(*model_.blocks[block], *context_);
  if (segment.keep) {
    segment.outputs = outputs;
  } else {
    // Without a graph the outputs cannot tell: what the parts made is taken to need a gradient.
    for (at::Tensor* output : outputs.tensors()) {
      if (!output->defined() || passed_input(*output, segment.inputs) >= 0) continue;
      *output = output->detach();
      if (at::isFloatingType(output->scalar_type())) output->requires_grad_(true);
    }
  }
  return outputs;
}

void Tape::backward(double seed, bool last) {
  const std::size_t num_blocks = model_.blocks.size();
  GIMBAL_CHECK(context_, "backward without forward");
  GIMBAL_CHECK_EQ(records_.size(), num_blocks - first_recorded_);
  Flow gradients;
  gradients.loss = at::full_like(loss_, seed);
  for (std::size_t i = num_blocks; i-- > 0;) {
    if (i >= first_recorded_) {
      Record record = std::move(records_.back());
      records_.pop_back();
      const OpenBlock open(store_, i, /*backward=*/true);
      observe(i, /*backward=*/true, /*begin=*/true);
      for (; !record.empty(); record.pop_back()) {
        gradients = backward_segment(i, std::move(record.back()), std::move(gradients));
      }
      observe(i, /*backward=*/true, /*begin=*/false);
    }
    store_.finish_micro_batch(i, last);
  }
  context_.reset();
}

Flow Tape::backward_segment(std::size_t block, Segment segment, Flow gradients) {
  if (!segment.keep) {
    c10::AutoGradMode grad_mode(true);
    segment.outputs = segment.forward(*model_.blocks[block], *context_);
  }
  std::vector<at::Tensor> roots, root_gradients;
  Flow passed;
  for (std::size_t k = 0; k < kNumTensors; ++k) {
    const at::Tensor& output = *segment.outputs.tensors()[k];
    at::Tensor& gradient = *gradients.tensors()[k];
    // Undefined: no later block has used this output.
    if (!output.defined() || !gradient.defined()) continue;
    const int input = passed_input(output, segment.inputs);
    if (input >= 0) {
      add_gradient(*passed.tensors()[static_cast<std::size_t>(input)], gradient);
    } else if (output.requires_grad()) {
      roots.push_back(output);
      root_gradients.push_back(gradient);
    }
  }
  if (!roots.empty()) torch::autograd::backward(roots, root_gradients);
  Flow result;
  for (std::size_t k = 0; k < kNumTensors; ++k) {
    at::Tensor& input = *segment.inputs.tensors()[k];
    if (!input.defined() || !input.requires_grad()) continue;
    at::Tensor& gradient = *result.tensors()[k];
    gradient = *passed.tensors()[k];
    add_gradient(gradient, input.grad());
  }
  return result;
}

Flow run_forward(const Model& model, ParameterStore& store, const PassContext& context) {
  c10::NoGradGuard no_grad;
  Flow flow;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const OpenBlock open(store, i, /*backward=*/false);
    flow = model.blocks[i]->forward(context, flow);
  }
  return flow;
}

}  // namespace gimbal
