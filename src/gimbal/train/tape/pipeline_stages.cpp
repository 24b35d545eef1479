#include "gimbal/train/tape/pipeline_stages.h"

#include <ATen/ops/full_like.h>

#include "gimbal/base/error.h"

namespace gimbal {

TapeStages::TapeStages(const Model& model, ParameterStore& store, TapeStagesSetup setup)
    : model_(model), setup_(std::move(setup)), first_trained_(first_trained_block(model)) {
  const auto num_ranks = static_cast<std::size_t>(setup_.num_ranks);
  GIMBAL_CHECK(setup_.stages.size() % num_ranks == 0 && !setup_.stages.empty(), "",
               setup_.stages.size(), " stages on ", num_ranks, " ranks");
  std::size_t next = 0;
  for (const BlockRange& range : setup_.stages) {
    GIMBAL_CHECK_EQ(range.begin, next, "a stage begins elsewhere than the one before ends");
    next = range.end;
  }
  GIMBAL_CHECK_EQ(next, model.blocks.size(), "the stages do not have all blocks");
  for (auto s = static_cast<std::size_t>(setup_.rank); s < setup_.stages.size(); s += num_ranks) {
    tapes_.push_back(std::make_unique<Tape>(model, store, setup_.levels, setup_.stages[s],
                                            setup_.split_backward));
  }
}

TapeStages::~TapeStages() = default;

void TapeStages::begin(const Schedule& schedule, NextBatch next_batch, double seed) {
  GIMBAL_CHECK_EQ(schedule.num_ranks, setup_.num_ranks);
  GIMBAL_CHECK_EQ(static_cast<std::size_t>(schedule.num_stages), setup_.stages.size());
  for (const auto& tape : tapes_) tape->clear();
  next_batch_ = std::move(next_batch);
  seed_ = seed;
  running_ = -1;
  num_fetched_ = 0;
  micro_batches_.clear();
  micro_batches_.resize(static_cast<std::size_t>(schedule.num_micro_batches));
  last_micro_batches_.assign(tapes_.size(), -1);
  for (const Action& action : schedule.ranks[static_cast<std::size_t>(setup_.rank)]) {
    const bool is_forward = action.kind == ActionKind::kForward;
    if (action.kind != ActionKind::kBackwardWeight)
      ++micro_batches_[static_cast<std::size_t>(action.micro_batch)].uses_left;
    if (!is_forward && action.kind != ActionKind::kBackwardInput)
      last_micro_batches_[local_index(action.stage)] = action.micro_batch;
  }
}

std::vector<at::Tensor> TapeStages::losses() const {
  std::vector<at::Tensor> losses;
  for (const MicroBatch& micro_batch : micro_batches_) losses.push_back(micro_batch.loss);
  return losses;
}

const Batch* TapeStages::running_batch() const {
  if (running_ < 0) return nullptr;
  const auto& batch = micro_batches_[static_cast<std::size_t>(running_)].batch;
  return batch ? &*batch : nullptr;
}

std::size_t TapeStages::local_index(int stage) const {
  GIMBAL_CHECK_EQ(stage % setup_.num_ranks, setup_.rank, "stage ", stage, " is on another rank");
  return static_cast<std::size_t>(stage / setup_.num_ranks);
}

const Tape& TapeStages::tape(int stage) const { return *tapes_.at(local_index(stage)); }

void TapeStages::set_observer(const TapeObserver& observer) {
  for (const auto& tape : tapes_) tape->set_observer(observer);
}

std::vector<FlowShape> TapeStages::boundaries_of(const Batch& batch) const {
  std::vector<FlowShape> boundaries;
  FlowShape shape;
  for (const BlockRange& range : setup_.stages) {
    for (std::size_t i = range.begin; i < range.end; ++i)
      shape = model_.blocks[i]->output_shape(batch, shape);
    boundaries.push_back(shape);
  }
  return boundaries;
}

TapeStages::MicroBatch& TapeStages::fetched(int micro_batch) const {
  const auto index = static_cast<std::size_t>(micro_batch);
  GIMBAL_CHECK(index < micro_batches_.size(), "micro-batch ", micro_batch, " of ",
               micro_batches_.size());
  for (; num_fetched_ <= index; ++num_fetched_) {
    MicroBatch& next = micro_batches_[num_fetched_];
    next.batch.emplace(next_batch_());
    next.boundaries = boundaries_of(*next.batch);
  }
  return micro_batches_[index];
}

StageBoundary TapeStages::boundary(int stage, int micro_batch) const {
  const auto s = static_cast<std::size_t>(stage);
  return {fetched(micro_batch).boundaries.at(s), setup_.compute,
          first_trained_ < setup_.stages.at(s).end};
}

PassContext TapeStages::start(int micro_batch) {
  running_ = micro_batch;
  const MicroBatch& input = fetched(micro_batch);
  GIMBAL_CHECK(input.batch.has_value(), "micro-batch ", micro_batch,
               " runs more often than its schedule says");
  return {*input.batch, PassKind::kLoss, nullptr, setup_.loss_chunk_rows};
}

void TapeStages::end(int micro_batch) {
  MicroBatch& input = fetched(micro_batch);
  if (--input.uses_left == 0) input.batch.reset();
  running_ = -1;
}

Flow TapeStages::forward(int stage, int micro_batch, Flow in) {
  const PassContext context = start(micro_batch);
  Flow out = tapes_[local_index(stage)]->forward(micro_batch, context, std::move(in));
  if (setup_.stages[static_cast<std::size_t>(stage)].end == model_.blocks.size()) {
    GIMBAL_CHECK(out.loss.defined() && out.loss.dim() == 0, "the last block set no loss");
    fetched(micro_batch).loss = out.loss;
  }
  end(micro_batch);
  return out;
}

bool TapeStages::is_last(int stage, int micro_batch) const {
  return last_micro_batches_[local_index(stage)] == micro_batch;
}

Flow TapeStages::with_seed(int stage, int micro_batch, Flow gradients) const {
  if (setup_.stages[static_cast<std::size_t>(stage)].end == model_.blocks.size())
    gradients.loss = at::full_like(fetched(micro_batch).loss, seed_);
  return gradients;
}

Flow TapeStages::backward(int stage, int micro_batch, Flow gradients) {
  start(micro_batch);
  Flow result = tapes_[local_index(stage)]->backward(
      micro_batch, with_seed(stage, micro_batch, std::move(gradients)),
      is_last(stage, micro_batch));
  end(micro_batch);
  return result;
}

Flow TapeStages::backward_input(int stage, int micro_batch, Flow gradients) {
  start(micro_batch);
  Flow result = tapes_[local_index(stage)]->backward_input(
      micro_batch, with_seed(stage, micro_batch, std::move(gradients)));
  end(micro_batch);
  return result;
}

void TapeStages::backward_weight(int stage, int micro_batch) {
  running_ = micro_batch;
  tapes_[local_index(stage)]->backward_weight(micro_batch, is_last(stage, micro_batch));
  running_ = -1;
}

}  // namespace gimbal
