#include "gimbal/train/stop/stop_agreement.h"

#include <ATen/ops/tensor.h>

#include <algorithm>

#include "gimbal/train/stop/stop_signal.h"

namespace gimbal {

std::int64_t rounds_until_question(std::int64_t rounds, double seconds) {
  constexpr double kSecondsBetween = 1;
  // Rounds may be very unlike: a few short ones do not allow a long silence.
  const std::int64_t most = std::clamp<std::int64_t>(2 * rounds, 1, 1024);
  const double in_time = static_cast<double>(rounds) * kSecondsBetween / std::max(seconds, 1e-9);
  return in_time >= static_cast<double>(most)
             ? most
             : std::max<std::int64_t>(1, static_cast<std::int64_t>(in_time));
}

bool StopAgreement::stops() {
  if (rounds_left_ > 0) {
    --rounds_left_;
    return false;
  }
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - asked_).count();
  const at::Tensor own = at::tensor({stop_signal() != 0 ? 1.0 : 0.0, seconds}, at::kDouble);
  const at::Tensor all =
      comm_.all_gather(own.to(comm_.device()), "stop signals").to(at::kCPU).contiguous();
  const double* row = all.const_data_ptr<double>();
  bool stop = false;
  double slowest = 0;
  for (int rank = 0; rank < comm_.size(); ++rank, row += 2) {
    stop = stop || row[0] != 0;
    slowest = std::max(slowest, row[1]);
  }
  rounds_ = rounds_until_question(rounds_, slowest);
  rounds_left_ = rounds_ - 1;
  asked_ = std::chrono::steady_clock::now();
  return stop;
}

}  // namespace gimbal
