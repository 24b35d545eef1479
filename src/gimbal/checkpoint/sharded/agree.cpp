#include "gimbal/checkpoint/sharded/agree.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstdint>
#include <future>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr char kMarkUser = 'u', kMarkInternal = 'i';
// Far below any timeout of a collective that makes sense.
constexpr std::chrono::milliseconds kFirstRound{200}, kLongestRound{500};

std::string marked_message(const std::exception_ptr& error) {
  if (!error) return {};
  try {
    std::rethrow_exception(error);
  } catch (const UserError& e) {
    return kMarkUser + std::string(e.what());
  } catch (const std::exception& e) {
    return kMarkInternal + std::string(e.what());
  } catch (...) {
    return kMarkInternal + std::string("an error without a message");
  }
}

}  // namespace

void agree_on_error(Comm& comm, const std::exception_ptr& error, const std::string& name) {
  const std::vector<std::string> all = all_gather_bytes(comm, marked_message(error), name);
  if (error) std::rethrow_exception(error);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].empty()) continue;
    const std::string message = concat("rank ", rank, ": ", all[rank].substr(1));
    if (all[rank].front() == kMarkUser) throw UserError(message);
    throw InternalError(message);
  }
}

void run_together(Comm& comm, const std::string& name, const std::function<void()>& work) {
  std::exception_ptr error;
  try {
    work();
  } catch (...) {
    error = std::current_exception();
  }
  agree_on_error(comm, error, name);
}

void wait_together(Comm& comm, const std::string& name,
                   const std::function<SlowWork(std::chrono::milliseconds)>& wait) {
  for (std::chrono::milliseconds pause = kFirstRound;; pause = std::min(2 * pause, kLongestRound)) {
    const SlowWork state = wait(pause);
    const at::Tensor counts = at::zeros({2}, at::kLong);
    auto* own = counts.mutable_data_ptr<std::int64_t>();
    own[0] = state == SlowWork::kRunning ? 1 : 0;
    own[1] = state == SlowWork::kFailed ? 1 : 0;
    const at::Tensor on_device = counts.to(comm.device());
    comm.all_reduce_sum(on_device, name)->wait();
    const at::Tensor sums = on_device.to(at::kCPU);
    const auto* of_all = sums.const_data_ptr<std::int64_t>();
    if (of_all[0] == 0 || of_all[1] > 0) return;
  }
}

void run_slow_together(Comm& comm, const std::string& name, const std::function<void()>& work) {
  std::future<void> result = std::async(std::launch::async, work);
  wait_together(comm, name, [&](std::chrono::milliseconds time) {
    return result.wait_for(time) == std::future_status::ready ? SlowWork::kDone
                                                              : SlowWork::kRunning;
  });
  run_together(comm, name, [&] { result.get(); });
}

}  // namespace gimbal
