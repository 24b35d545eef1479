// The messages between pipeline stages: which tensors they have, in which order they come, which
// are under way.
#pragma once

#include <algorithm>
#include <compare>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gimbal/parallel/pipeline.h"

namespace gimbal {

/// Activations go to the next stage, gradients to the one before.
enum class StageMessageKind { kActivations, kGradients };

/// What a stage gets for one micro-batch.
struct StageMessage {
  StageMessageKind kind = StageMessageKind::kActivations;
  int stage = 0;  // that gets it
  int micro_batch = 0;

  /// The stage that makes it.
  int sender() const { return kind == StageMessageKind::kActivations ? stage - 1 : stage + 1; }
  /// The stage before the boundary that it crosses.
  int boundary_stage() const { return std::min(stage, sender()); }
  auto operator<=>(const StageMessage&) const = default;
};

/// Messages of one link whose receives may not be posted yet.
inline constexpr std::size_t kMostSendsUnderWay = 2;

/// What the action waits for; nothing for the ends of the pipeline and weight gradients.
std::optional<StageMessage> input_of(const Schedule& schedule, const Action& action);
/// What the action hands over; nothing for the same.
std::optional<StageMessage> output_of(const Schedule& schedule, const Action& action);
/// The way that a message between ranks takes: rank r's activations go forward to rank r + 1, its
/// gradients back to r - 1. Between two ranks all that goes from rank 0 to 1 goes forward, and what
/// comes back the other way: where operations of a pair run one after another, as in NCCL, a
/// receive that waits must not hold up what the other side waits for.
bool goes_forward(const Schedule& schedule, const StageMessage& message);

/// "activations of micro-batch 3 to stage 2".
std::string to_string(const StageMessage& message);

/// What is handed over: of gradients none when nothing before the boundary is trained.
FlowShape shape_of_message(const StageMessage& message, const StageBoundary& boundary);

/// Throws InternalError that names message and stream unless `flow` has the streams of the
/// boundary, in its shapes and dtype, and nothing else. Gradients that nothing has asked for are
/// undefined.
void check_flow(const StageMessage& message, const StageBoundary& boundary, const Flow& flow);

/// Receives messages from one rank. They come in the order in which they are sent, which may differ
/// from that in which they are used.
class StageInbox {
 public:
  /// `messages`: all, in the sender's order. The references must outlive the inbox.
  StageInbox(Comm& comm, int from, std::vector<StageMessage> messages, const StageRunner& runner);

  /// Starts to receive the message, and all that are sent before it.
  void post(const StageMessage& message);
  /// Waits for it.
  Flow take(const StageMessage& message);

 private:
  struct Pending {
    Flow flow;
    std::vector<std::unique_ptr<CommWork>> works;
  };

  Pending start(const StageMessage& message) const;

  Comm& comm_;
  int from_;
  std::vector<StageMessage> messages_;
  const StageRunner& runner_;
  std::map<StageMessage, std::size_t> positions_;
  std::size_t num_posted_ = 0;
  std::map<std::size_t, Pending> pending_;  // by position
};

/// Sends messages to one rank.
class StageOutbox {
 public:
  /// `comm` must outlive the outbox.
  StageOutbox(Comm& comm, int to) : comm_(comm), to_(to) {}

  /// Starts to send (zeros for undefined gradients). Waits first until only one message before this
  /// one is under way.
  void send(const StageMessage& message, const StageBoundary& boundary, const Flow& flow);
  void wait_for_all();

 private:
  struct Pending {
    std::vector<at::Tensor> tensors;  // kept alive
    std::vector<std::unique_ptr<CommWork>> works;
  };

  void wait_for_first();

  Comm& comm_;
  int to_;
  std::deque<Pending> pending_;
};

}  // namespace gimbal
