// A call under way, and what it says when it fails. Included by comm_*.cpp only.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/comm/comm_state.h"

namespace gimbal {

class LocalCall;

/// What a call consists of: works of the backend, or a call through shared memory.
struct StartedCall {
  /// Of one collective, or messages between two ranks each.
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  bool messages = false;
  std::vector<at::Tensor> alive;     // whose bytes `local` moves
  std::shared_ptr<LocalCall> local;  // goes before them
  /// Run when all are done; may be empty.
  std::function<void()> finish;
};

/// Collectives of the backend itself.
StartedCall backend_call(c10::intrusive_ptr<c10d::Work> work);

StartedCall backend_all_reduce(c10d::Backend& backend, const at::Tensor& tensor);
StartedCall backend_broadcast(c10d::Backend& backend, const at::Tensor& tensor, int root);

/// Makes the works of a call; on the calling thread.
using StartCall = std::function<StartedCall()>;

class C10dWork : public CommWork {
 public:
  /// Throws CommError when `start` throws.
  C10dWork(std::shared_ptr<CommGroup> group, const FlightCall& call, CallTraffic traffic,
           const StartCall& start);
  ~C10dWork() override;
  void wait() override;

 private:
  void wait_for_all();
  void wait_for(const c10::intrusive_ptr<c10d::Work>& work);
  void wait_for_message(const c10::intrusive_ptr<c10d::Work>& work);
  void wait_for_collective(c10d::Work& work);
  [[noreturn]] void fail(const std::exception& reason);

  std::shared_ptr<CommGroup> group_;
  CallCounter& counter_;
  std::string subject_;  // "all_reduce_sum of 'gradients of text.3'"
  std::int64_t number_;
  std::chrono::steady_clock::time_point begin_;
  StartedCall started_;
  bool done_ = false;
};

}  // namespace gimbal
