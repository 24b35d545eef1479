#include "gimbal/parallel/store/gradient_reducer.h"

#include <c10/core/GradMode.h>

namespace gimbal {

void GradientReducer::begin_block() {
  c10::NoGradGuard no_grad;
  while (!scatters_.empty()) {
    Scatter scatter = std::move(scatters_.front());
    scatters_.pop_front();
    scatter.work->wait();
    scatter.sum.add_(scatter.part);
    if (scatter.last) reduce_over_replicas(scatter.sum, *scatter.replicas, scatter.name);
  }
}

void GradientReducer::add(at::Tensor sum, at::Tensor whole, Comm& replicas, bool last,
                          const std::string& name) {
  if (sum.numel() == 0) return;
  if (shard_.size() == 1) {
    if (last) reduce_over_replicas(sum, replicas, name);
    return;
  }
  // The result goes into the buffer itself. What arrives from the others has a buffer of its own.
  const std::int64_t numel = sum.numel();
  at::Tensor part = whole.narrow(0, shard_.rank() * numel, numel);
  auto work = shard_.reduce_scatter_sum(part, whole, name);
  scatters_.push_back(
      {std::move(sum), std::move(whole), std::move(part), &replicas, last, name, std::move(work)});
}

void GradientReducer::finish() {
  begin_block();
  for (const auto& work : all_reduces_) work->wait();
  all_reduces_.clear();
}

void GradientReducer::reduce_over_replicas(const at::Tensor& sum, Comm& replicas,
                                           const std::string& name) {
  if (replicas.size() > 1) all_reduces_.push_back(replicas.all_reduce_sum(sum, name));
}

}  // namespace gimbal
