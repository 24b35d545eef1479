#include "gimbal/parallel/store/unit_gradients.h"

#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal {

UnitGradients::UnitGradients(const UnitLayout& layout, std::vector<at::Tensor> leaves,
                             at::ScalarType master)
    : layout_(layout), leaves_(std::move(leaves)) {
  const at::TensorOptions options = leaves_.front().options().dtype(master).requires_grad(false);
  in_place_ = leaves_.front().scalar_type() == master;
  sum_ = at::zeros({layout.shard_numel()}, options);
  if (layout.num_shards == 1) make_whole();
}

void UnitGradients::make_whole() {
  c10::NoGradGuard no_grad;
  whole_ = layout_.num_shards == 1 ? sum_ : at::zeros({layout_.numel}, sum_.options());
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    views_.push_back(view_of(whole_, layout_.places[i]));
    if (!in_place_) continue;
    at::Tensor& gradient = leaves_[i].mutable_grad();
    if (gradient.defined()) views_.back().copy_(gradient);  // that came before the buffer
    gradient = views_.back();
  }
}

void UnitGradients::begin_step() {
  sum_.zero_();
  if (layout_.num_shards > 1 && whole_.defined()) take_whole();
  if (in_place_ && layout_.num_shards == 1) return;  // the leaves' gradients are the sum
  for (at::Tensor& leaf : leaves_) leaf.mutable_grad().reset();
}

void UnitGradients::begin_backward() {
  if (in_place_ && !whole_.defined()) make_whole();
}

void UnitGradients::collect() {
  if (in_place_) return;
  c10::NoGradGuard no_grad;
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    at::Tensor& gradient = leaves_[i].mutable_grad();
    if (!gradient.defined()) continue;
    if (!whole_.defined()) make_whole();
    views_[i].add_(gradient);
    gradient.reset();
  }
}

at::Tensor UnitGradients::take_whole() {
  GIMBAL_CHECK(layout_.num_shards > 1, "the sum itself cannot be taken");
  if (!whole_.defined()) make_whole();
  views_.clear();
  if (in_place_) {
    for (at::Tensor& leaf : leaves_) leaf.mutable_grad().reset();
  }
  return std::exchange(whole_, at::Tensor());
}

bool UnitGradients::all_taken() const {
  if (layout_.num_shards == 1 && in_place_) return true;
  const auto has_gradient = [](const at::Tensor& leaf) { return leaf.grad().defined(); };
  return (layout_.num_shards == 1 || !whole_.defined()) &&
         std::none_of(leaves_.begin(), leaves_.end(), has_gradient);
}

}  // namespace gimbal
