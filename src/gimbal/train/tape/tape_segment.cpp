#include "gimbal/train/tape/tape_segment.h"

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

namespace gimbal {
namespace {

constexpr std::size_t kFlowSize = Flow::kNumTensors;

/// Leaves on the same storage; those whose source asks for a gradient do so, too.
Flow leaves_of(const Flow& flow) {
  Flow leaves = detached(flow);
  for (std::size_t k = 0; k < kFlowSize; ++k) {
    if (flow.tensors()[k]->requires_grad()) leaves.tensors()[k]->requires_grad_(true);
  }
  return leaves;
}

/// The input that the block handed on as it is; -1 for a tensor that it made.
int passed_input(const at::Tensor& output, const Flow& inputs) {
  for (std::size_t k = 0; k < kFlowSize; ++k) {
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

Flow detached(const Flow& flow) {
  Flow result;
  for (std::size_t k = 0; k < kFlowSize; ++k) {
    const at::Tensor& source = *flow.tensors()[k];
    if (source.defined()) *result.tensors()[k] = source.detach();
  }
  return result;
}

Flow TapeSegment::run_parts(const PassContext& context) const {
  Flow flow = inputs_;
  for (int part = begin_; part < end_; ++part) flow = block_->forward_part(part, context, flow);
  return flow;
}

Flow TapeSegment::forward(const PassContext& context, Flow in) {
  inputs_ = leaves_of(in);
  in = Flow();  // the previous segment's outputs live on in it
  c10::AutoGradMode grad_mode(keep_);
  Flow outputs = run_parts(context);
  if (keep_) {
    outputs_ = outputs;
    return outputs;
  }
  // Without a graph the outputs cannot tell: what the parts made is taken to need a gradient.
  for (at::Tensor* output : outputs.tensors()) {
    if (!output->defined() || passed_input(*output, inputs_) >= 0) continue;
    *output = output->detach();
    if (at::isFloatingType(output->scalar_type())) output->requires_grad_(true);
  }
  return outputs;
}

Flow TapeSegment::backward(const PassContext& context, Flow gradients,
                           const RerunObserver& observer) {
  if (!keep_) {
    if (observer) observer(/*begin=*/true);
    c10::AutoGradMode grad_mode(true);
    outputs_ = run_parts(context);
    if (observer) observer(/*begin=*/false);
  }
  std::vector<at::Tensor> roots, root_gradients;
  Flow passed;
  for (std::size_t k = 0; k < kFlowSize; ++k) {
    const at::Tensor& output = *outputs_.tensors()[k];
    const at::Tensor& gradient = *gradients.tensors()[k];
    // Undefined: no later block has used this output.
    if (!output.defined() || !gradient.defined()) continue;
    const int input = passed_input(output, inputs_);
    if (input >= 0) {
      add_gradient(*passed.tensors()[static_cast<std::size_t>(input)], gradient);
    } else if (output.requires_grad()) {
      roots.push_back(output);
      root_gradients.push_back(gradient);
    }
  }
  if (!roots.empty()) torch::autograd::backward(roots, root_gradients);
  Flow result;
  for (std::size_t k = 0; k < kFlowSize; ++k) {
    const at::Tensor& input = *inputs_.tensors()[k];
    if (!input.defined() || !input.requires_grad()) continue;
    at::Tensor& gradient = *result.tensors()[k];
    gradient = *passed.tensors()[k];
    add_gradient(gradient, input.grad());
  }
  return result;
}

std::vector<TapeSegment> segments_of(const Block& block, Recompute level) {
  std::vector<TapeSegment> segments;
  const int parts = block.num_parts();
  if (level == Recompute::kKeep || level == Recompute::kFull || parts == 1) {
    segments.emplace_back(block, 0, parts, level == Recompute::kKeep);
  } else {
    GIMBAL_CHECK_EQ(parts, 2);
    segments.emplace_back(block, 0, 1, level != Recompute::kAttention);
    segments.emplace_back(block, 1, 2, level != Recompute::kMlp);
  }
  return segments;
}

}  // namespace gimbal
