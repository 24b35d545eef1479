#include "gimbal/parallel/comm/comm_work.h"

#include <optional>
#include <stdexcept>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/comm_c10d.h"
#include "gimbal/parallel/shm/local_call.h"

namespace gimbal {
namespace {

constexpr std::chrono::milliseconds kShortWait{200};
constexpr const char* kInterrupted = "another rank has failed";

}  // namespace

StartedCall backend_call(c10::intrusive_ptr<c10d::Work> work) {
  StartedCall call;
  call.works.push_back(std::move(work));
  return call;
}

StartedCall backend_all_reduce(c10d::Backend& backend, const at::Tensor& tensor) {
  std::vector<at::Tensor> tensors{tensor};
  return backend_call(backend.allreduce(tensors));
}

StartedCall backend_broadcast(c10d::Backend& backend, const at::Tensor& tensor, int root) {
  std::vector<at::Tensor> tensors{tensor};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  return backend_call(backend.broadcast(tensors, options));
}

C10dWork::C10dWork(std::shared_ptr<CommGroup> group, const FlightCall& call, CallTraffic traffic,
                   const StartCall& start)
    : group_(std::move(group)),
      counter_(group_->counters->of(traffic.kind)),
      subject_(concat(call.collective, " of '", call.what, "'")),
      number_(group_->state->record->begin(call)),
      begin_(std::chrono::steady_clock::now()) {
  try {
    started_ = start();
  } catch (const std::exception& e) {
    fail(e);
  }
  ++counter_.calls;
  counter_.bytes += traffic.bytes;
}

C10dWork::~C10dWork() {
  if (!done_) group_->has_dropped_calls = true;
}

void C10dWork::wait() {
  if (done_) return;
  FlightRecord& record = *group_->state->record;
  record.wait(number_);
  const auto begin = std::chrono::steady_clock::now();
  try {
    wait_for_all();
  } catch (const std::exception& e) {
    fail(e);
  }
  counter_.waited += std::chrono::steady_clock::now() - begin;
  if (started_.finish) started_.finish();
  record.end(number_);
  done_ = true;
  started_ = {};
}

void C10dWork::wait_for_all() {
  const CommState& state = *group_->state;
  if (started_.local) {
    started_.local->group().hub().wait(*started_.local, state.timeout, state.waiting->interrupted);
  }
  if (started_.works.empty()) return;
  // Another rank may wait for what this one has to say in shared memory.
  std::optional<LocalHub::Away> away;
  if (state.machine.hub) away.emplace(*state.machine.hub);
  for (const auto& work : started_.works) wait_for(work);
}

void C10dWork::wait_for(const c10::intrusive_ptr<c10d::Work>& work) {
  if (group_->state->device.is_cuda()) {
    work->wait();  // holds back the stream, not the host
  } else if (started_.messages) {
    wait_for_message(work);
  } else {
    wait_for_collective(*work);
  }
}

void C10dWork::wait_for_message(const c10::intrusive_ptr<c10d::Work>& work) {
  MessageWait& waiting = *group_->state->waiting;
  {
    const std::lock_guard lock(waiting.mutex);
    waiting.work = work;
    if (waiting.interrupted) throw std::runtime_error(kInterrupted);
  }
  const bool arrived = work->wait();
  const std::lock_guard lock(waiting.mutex);
  waiting.work.reset();
  if (!arrived) throw std::runtime_error(kInterrupted);
}

void C10dWork::wait_for_collective(c10d::Work& work) {
  // In short waits, between which the failure of another rank is noticed.
  while (!work.isCompleted()) {
    if (group_->state->waiting->interrupted) throw std::runtime_error(kInterrupted);
    try {
      work.wait(kShortWait);
    } catch (const std::exception&) {
      // Not yet done; or it has failed, and says so below.
    }
  }
  work.wait();
}

void C10dWork::fail(const std::exception& reason) {
  CommState& state = *group_->state;
  state.record->fail(number_);
  state.failed = true;
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  const std::string what =
      concat(subject_, " failed on ", state.describe_rank(), " in ", group_->describe(), " after ",
             seconds, " s (timeout ", std::chrono::duration<double>(state.timeout).count(), " s)");
  throw CommError(concat(
      what, ". ", state.health ? state.health->diagnose(what) : "", "Reason: ", reason_of(reason),
      "\nLast collectives of this rank (> failed, * under way):\n", state.record->report()));
}

void MessageWait::interrupt() {
  const std::lock_guard lock(mutex);
  interrupted = true;
  if (work) work->abort();
}

}  // namespace gimbal
