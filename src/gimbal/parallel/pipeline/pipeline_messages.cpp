#include "gimbal/parallel/pipeline/pipeline_messages.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <optional>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

struct BoundaryStream {
  const char* name;
  at::Tensor Flow::*tensor;
  std::optional<RowsShape> FlowShape::*shape;
};

/// In the order in which they are sent.
constexpr std::array<BoundaryStream, 2> kBoundaryStreams = {
    {{"vision", &Flow::vision, &FlowShape::vision}, {"text", &Flow::text, &FlowShape::text}}};

const char* kind_name(StageMessageKind kind) {
  return kind == StageMessageKind::kActivations ? "activations" : "gradients";
}

/// Names one tensor of a message at one of its ends.
std::string tensor_name(const StageMessage& message, const char* stream, bool sends) {
  return concat(kind_name(message.kind), " ", stream, " of micro-batch ", message.micro_batch,
                sends ? " to stage " : " from stage ", sends ? message.stage : message.sender());
}

void check_tensor(const std::string& name, const at::Tensor& tensor, const RowsShape& shape,
                  at::ScalarType dtype) {
  const bool fits = tensor.dim() == 2 && tensor.size(0) == shape.rows &&
                    tensor.size(1) == shape.width && tensor.scalar_type() == dtype;
  GIMBAL_CHECK(fits, "", name, " are ", tensor.sizes(), " ", at::toString(tensor.scalar_type()),
               "; both stages expect [", shape.rows, ", ", shape.width, "] ", at::toString(dtype));
}

}  // namespace

std::optional<StageMessage> input_of(const Schedule& schedule, const Action& action) {
  if (action.kind == ActionKind::kForward) {
    if (action.stage == 0) return std::nullopt;
    return StageMessage{StageMessageKind::kActivations, action.stage, action.micro_batch};
  }
  if (action.kind == ActionKind::kBackwardWeight || action.stage + 1 == schedule.num_stages)
    return std::nullopt;
  return StageMessage{StageMessageKind::kGradients, action.stage, action.micro_batch};
}

std::optional<StageMessage> output_of(const Schedule& schedule, const Action& action) {
  if (action.kind == ActionKind::kForward) {
    if (action.stage + 1 == schedule.num_stages) return std::nullopt;
    return StageMessage{StageMessageKind::kActivations, action.stage + 1, action.micro_batch};
  }
  if (action.kind == ActionKind::kBackwardWeight || action.stage == 0) return std::nullopt;
  return StageMessage{StageMessageKind::kGradients, action.stage - 1, action.micro_batch};
}

bool goes_forward(const Schedule& schedule, const StageMessage& message) {
  return schedule.num_ranks == 2 ? schedule.rank_of(message.stage) == 1
                                 : message.kind == StageMessageKind::kActivations;
}

std::string to_string(const StageMessage& message) {
  return concat(kind_name(message.kind), " of micro-batch ", message.micro_batch, " to stage ",
                message.stage);
}

FlowShape shape_of_message(const StageMessage& message, const StageBoundary& boundary) {
  const bool is_empty = message.kind == StageMessageKind::kGradients && !boundary.needs_gradient;
  return is_empty ? FlowShape() : boundary.shape;
}

void check_flow(const StageMessage& message, const StageBoundary& boundary, const Flow& flow) {
  const FlowShape shapes = shape_of_message(message, boundary);
  GIMBAL_CHECK(!flow.loss.defined() && !flow.logits.defined(), "", to_string(message),
               " have a loss or logits, which are not handed over");
  for (const BoundaryStream& stream : kBoundaryStreams) {
    const at::Tensor& tensor = flow.*stream.tensor;
    const std::optional<RowsShape>& shape = shapes.*stream.shape;
    const std::string name = tensor_name(message, stream.name, /*sends=*/true);
    if (!shape) {
      GIMBAL_CHECK(!tensor.defined(), "", name, " are there; neither stage expects them");
    } else if (tensor.defined()) {
      check_tensor(name, tensor, *shape, boundary.dtype);
    } else {
      GIMBAL_CHECK(message.kind == StageMessageKind::kGradients, "", name, " are missing");
    }
  }
}

StageInbox::StageInbox(Comm& comm, int from, std::vector<StageMessage> messages,
                       const StageRunner& runner)
    : comm_(comm), from_(from), messages_(std::move(messages)), runner_(runner) {
  for (std::size_t i = 0; i < messages_.size(); ++i) {
    positions_[messages_[i]] = i;
  }
}

void StageInbox::post(const StageMessage& message) {
  const std::size_t position = positions_.at(message);
  for (; num_posted_ <= position; ++num_posted_) {
    pending_.emplace(num_posted_, start(messages_[num_posted_]));
  }
}

StageInbox::Pending StageInbox::start(const StageMessage& message) const {
  const StageBoundary boundary = runner_.boundary(message.boundary_stage(), message.micro_batch);
  const FlowShape shapes = shape_of_message(message, boundary);
  const auto options = at::TensorOptions().dtype(boundary.dtype).device(comm_.device());
  Pending pending;
  for (const BoundaryStream& stream : kBoundaryStreams) {
    const std::optional<RowsShape>& shape = shapes.*stream.shape;
    if (!shape) continue;
    const at::Tensor buffer = at::empty({shape->rows, shape->width}, options);
    pending.flow.*stream.tensor = buffer;
    if (buffer.numel() == 0) continue;
    pending.works.push_back(
        comm_.receive(buffer, from_, tensor_name(message, stream.name, /*sends=*/false)));
  }
  return pending;
}

Flow StageInbox::take(const StageMessage& message) {
  post(message);
  auto entry = pending_.extract(positions_.at(message));
  GIMBAL_CHECK(!entry.empty(), "", to_string(message), " are taken twice");
  for (const auto& work : entry.mapped().works) work->wait();
  return std::move(entry.mapped().flow);
}

void StageOutbox::send(const StageMessage& message, const StageBoundary& boundary,
                       const Flow& flow) {
  const FlowShape shapes = shape_of_message(message, boundary);
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const BoundaryStream& stream : kBoundaryStreams) {
    const std::optional<RowsShape>& shape = shapes.*stream.shape;
    if (!shape || shape->rows * shape->width == 0) continue;
    const at::Tensor& tensor = flow.*stream.tensor;
    // Both sides know from the shapes alone what is sent, so that nobody waits in vain.
    tensors.emplace_back(tensor_name(message, stream.name, /*sends=*/true),
                         tensor.defined()
                             ? tensor.contiguous()
                             : at::zeros({shape->rows, shape->width},
                                         at::TensorOptions(boundary.dtype).device(comm_.device())));
  }
  if (tensors.empty()) return;
  while (pending_.size() >= kMostSendsUnderWay) wait_for_first();
  Pending pending;
  for (auto& [name, tensor] : tensors) {
    pending.works.push_back(comm_.send(tensor, to_, name));
    pending.tensors.push_back(std::move(tensor));
  }
  pending_.push_back(std::move(pending));
}

void StageOutbox::wait_for_first() {
  for (const auto& work : pending_.front().works) work->wait();
  pending_.pop_front();
}

void StageOutbox::wait_for_all() {
  while (!pending_.empty()) wait_for_first();
}

}  // namespace gimbal
