#include "gimbal/train/tape/tape.h"

#include <ATen/ops/full_like.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <exception>

#include "gimbal/base/error.h"
#include "gimbal/train/tape/tape_segment.h"

namespace gimbal {
namespace {

// The micro-batch of the calls for the whole model.
constexpr int kOnlyMicroBatch = 0;

/// Keeps a block open; closes it also when the block throws: what closing throws then is dropped,
/// as the first error says more.
class OpenBlock {
 public:
  OpenBlock(ParameterStore& store, std::size_t block, bool backward)
      : store_(store), block_(block) {
    store.open(block, backward);
  }
  ~OpenBlock() noexcept(false) {
    try {
      store_.close(block_);
    } catch (...) {
      if (std::uncaught_exceptions() == num_exceptions_) throw;
    }
  }
  OpenBlock(const OpenBlock&) = delete;
  OpenBlock& operator=(const OpenBlock&) = delete;

 private:
  ParameterStore& store_;
  std::size_t block_;
  int num_exceptions_ = std::uncaught_exceptions();
};

/// While it lives, products of the block put their weight gradients off. Null: they do not.
class DeferredProducts {
 public:
  DeferredProducts(const Block& block, DeferredGradients* deferred) : block_(block) {
    if (deferred != nullptr) set(deferred);
  }
  ~DeferredProducts() { set(nullptr); }
  DeferredProducts(const DeferredProducts&) = delete;
  DeferredProducts& operator=(const DeferredProducts&) = delete;

 private:
  void set(DeferredGradients* deferred) {
    for (const auto* parameters : {&block_.parameters(), &block_.borrowed()}) {
      for (const ParameterPtr& parameter : *parameters) {
        if (parameter->trainable) parameter->deferred = deferred;
      }
    }
  }

  const Block& block_;
};

bool has_trainable(const Block& block) {
  const auto trainable = [](const ParameterPtr& parameter) { return parameter->trainable; };
  return std::ranges::any_of(block.parameters(), trainable) ||
         std::ranges::any_of(block.borrowed(), trainable);
}

/// Adds the gradients that were put off; each task frees what it kept.
void run_deferred(DeferredGradients& deferred) {
  c10::NoGradGuard no_grad;
  for (std::function<void()>& task : deferred.tasks) {
    task();
    task = nullptr;
  }
  deferred.tasks.clear();
}

/// What a stage gets from the one before, as the whole model's tape would have it.
Flow stage_input(const Flow& in, bool needs_gradient) {
  Flow flow = detached(in);
  for (at::Tensor* tensor : flow.tensors()) {
    if (needs_gradient && tensor->defined() && at::isFloatingType(tensor->scalar_type()))
      tensor->requires_grad_(true);
  }
  return flow;
}

}  // namespace

struct Tape::Recording {
  explicit Recording(const PassContext& pass) : context(pass) {}

  PassContext context;
  std::map<std::size_t, std::vector<TapeSegment>> blocks;
  // By block. Graphs point to them.
  std::map<std::size_t, DeferredGradients> deferred;
  at::Tensor loss;  // detached; undefined when another stage has it
};

/// Tells the observer of a block's work.
class Tape::ObservedBlock {
 public:
  ObservedBlock(const Tape& tape, std::size_t block, bool backward)
      : observer_(tape.observer_), block_(block), backward_(backward) {
    if (observer_) observer_(block_, backward_, /*begin=*/true);
  }
  void end() const {
    if (observer_) observer_(block_, backward_, /*begin=*/false);
  }

 private:
  const TapeObserver& observer_;
  std::size_t block_;
  bool backward_;
};

std::size_t first_trained_block(const Model& model) {
  std::size_t block = 0;
  while (block < model.blocks.size() && !has_trainable(*model.blocks[block])) ++block;
  return block;
}

Tape::Tape(const Model& model, ParameterStore& store, std::vector<Recompute> levels)
    : Tape(model, store, std::move(levels), {0, model.blocks.size()}) {}

Tape::Tape(const Model& model, ParameterStore& store, std::vector<Recompute> levels,
           BlockRange range, bool split_backward)
    : model_(model),
      store_(store),
      levels_(std::move(levels)),
      range_(range),
      split_backward_(split_backward),
      first_recorded_(first_trained_block(model)) {
  GIMBAL_CHECK_EQ(levels_.size(), model.blocks.size());
  GIMBAL_CHECK(range.begin <= range.end && range.end <= model.blocks.size(), "no blocks ",
               range.begin, " to ", range.end);
}

Tape::~Tape() = default;

void Tape::clear() { recordings_.clear(); }

Flow Tape::forward(int micro_batch, const PassContext& context, Flow in) {
  GIMBAL_CHECK(context.kind == PassKind::kLoss && context.cache == nullptr,
               "the tape records training passes only");
  GIMBAL_CHECK(!recordings_.contains(micro_batch), "two forwards of micro-batch ", micro_batch);
  auto recording = std::make_unique<Recording>(context);
  Flow flow = stage_input(in, input_needs_gradient());
  in = Flow();
  for (std::size_t i = range_.begin; i < range_.end; ++i) {
    flow = run_block(*recording, i, std::move(flow));
  }
  Flow outputs = detached(flow);
  recording->loss = outputs.loss;
  recordings_.emplace(micro_batch, std::move(recording));
  return outputs;
}

Flow Tape::run_block(Recording& recording, std::size_t block, Flow flow) {
  const OpenBlock open(store_, block, /*backward=*/false);
  if (block + 1 < range_.end) store_.prefetch(block + 1);
  const ObservedBlock observed(*this, block, /*backward=*/false);
  const Block& code = *model_.blocks[block];
  if (block < first_recorded_) {
    c10::NoGradGuard no_grad;
    flow = code.forward(recording.context, flow);
  } else {
    const DeferredProducts products(code, split_backward_ ? &recording.deferred[block] : nullptr);
    std::vector<TapeSegment> segments = segments_of(code, levels_[block]);
    for (TapeSegment& segment : segments)
      flow = segment.forward(recording.context, std::move(flow));
    recording.blocks.emplace(block, std::move(segments));
  }
  observed.end();
  return flow;
}

std::unique_ptr<Tape::Recording> Tape::take_recording(int micro_batch) {
  const auto it = recordings_.find(micro_batch);
  GIMBAL_CHECK(it != recordings_.end(), "backward without forward of micro-batch ", micro_batch);
  std::unique_ptr<Recording> recording = std::move(it->second);
  recordings_.erase(it);
  return recording;
}

Flow Tape::backward(int micro_batch, Flow gradients, bool last) {
  const std::unique_ptr<Recording> recording = take_recording(micro_batch);
  for (std::size_t i = range_.end; i-- > range_.begin;) {
    if (i >= first_recorded_) {
      gradients = backward_block(*recording, i, std::move(gradients), /*with_weights=*/true);
    }
    store_.finish_micro_batch(i, last);
  }
  return input_needs_gradient() ? std::move(gradients) : Flow();
}

Flow Tape::backward_input(int micro_batch, Flow gradients) {
  GIMBAL_CHECK(split_backward_, "the tape does not split backward");
  std::unique_ptr<Recording> recording = take_recording(micro_batch);
  for (std::size_t i = range_.end; i-- > std::max(range_.begin, first_recorded_);) {
    gradients = backward_block(*recording, i, std::move(gradients), /*with_weights=*/false);
  }
  recordings_.emplace(micro_batch, std::move(recording));
  return input_needs_gradient() ? std::move(gradients) : Flow();
}

Flow Tape::backward_block(Recording& recording, std::size_t block, Flow gradients,
                          bool with_weights) {
  const auto record = recording.blocks.find(block);
  GIMBAL_CHECK(record != recording.blocks.end(), "'", model_.blocks[block]->name(),
               "' has had its backward");
  DeferredGradients* const deferred = split_backward_ ? &recording.deferred[block] : nullptr;
  const OpenBlock open(store_, block, /*backward=*/with_weights);
  if (block > std::max(range_.begin, first_recorded_)) store_.prefetch(block - 1);
  const ObservedBlock observed(*this, block, /*backward=*/true);
  RerunObserver rerun;
  if (recompute_observer_) rerun = [&](bool begin) { recompute_observer_(block, begin); };
  {
    const DeferredProducts products(*model_.blocks[block], deferred);
    std::vector<TapeSegment>& segments = record->second;
    for (; !segments.empty(); segments.pop_back()) {
      gradients = segments.back().backward(recording.context, std::move(gradients), rerun);
    }
  }
  recording.blocks.erase(record);
  if (with_weights && deferred != nullptr) run_deferred(*deferred);
  observed.end();
  return gradients;
}

void Tape::backward_weight(int micro_batch, bool last) {
  const std::unique_ptr<Recording> recording = take_recording(micro_batch);
  GIMBAL_CHECK(recording->blocks.empty(), "no backward_input of micro-batch ", micro_batch);
  for (std::size_t i = range_.end; i-- > range_.begin;) {
    if (i >= first_recorded_ && has_trainable(*model_.blocks[i])) {
      // Put-off gradients need what the products have kept, and no values of parameters.
      store_.open_gradients(i);
      DeferredGradients& deferred = recording->deferred[i];
      if (!deferred.tasks.empty()) {
        const ObservedBlock observed(*this, i, /*backward=*/true);
        run_deferred(deferred);
        observed.end();
      }
    }
    store_.finish_micro_batch(i, last);
  }
}

at::Tensor Tape::forward(const PassContext& context) {
  recordings_.erase(kOnlyMicroBatch);
  const Flow outputs = forward(kOnlyMicroBatch, context, Flow());
  GIMBAL_CHECK(outputs.loss.defined() && outputs.loss.dim() == 0, "the last block set no loss");
  return outputs.loss;
}

void Tape::backward(double seed, bool last) {
  const auto it = recordings_.find(kOnlyMicroBatch);
  GIMBAL_CHECK(it != recordings_.end(), "backward without forward");
  Flow gradients;
  gradients.loss = at::full_like(it->second->loss, seed);
  backward(kOnlyMicroBatch, std::move(gradients), last);
}

Flow run_forward(const Model& model, ParameterStore& store, const PassContext& context) {
  return run_forward(model, store, context, {0, model.blocks.size()}, Flow());
}

Flow run_forward(const Model& model, ParameterStore& store, const PassContext& context,
                 BlockRange range, Flow in) {
  c10::NoGradGuard no_grad;
  Flow flow = std::move(in);
  for (std::size_t i = range.begin; i < range.end; ++i) {
    const OpenBlock open(store, i, /*backward=*/false);
    if (i + 1 < range.end) store.prefetch(i + 1);
    flow = model.blocks[i]->forward(context, flow);
  }
  return flow;
}

}  // namespace gimbal
