#include "gimbal/parallel/store/unit_values.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include "gimbal/base/error.h"

namespace gimbal {

UnitValues::UnitValues(at::Tensor own, Comm& shard, at::ScalarType compute, std::string name)
    : own_(std::move(own)), shard_(shard), name_(std::move(name)) {
  const bool same_dtype = own_.scalar_type() == compute;
  if (shard.size() == 1 && same_dtype) {
    kind_ = Kind::kDirect;
    state_ = State::kFilled;
    flat_ = own_;
    return;
  }
  kind_ = shard.size() == 1 || own_.numel() == 0 ? Kind::kCopy : Kind::kGathered;
  flat_ = at::empty({own_.numel() * shard.size()}, own_.options().dtype(compute));
  if (is_gathered() && !same_dtype) {
    own_part_ = flat_.narrow(0, shard.rank() * own_.numel(), own_.numel());
  }
}

void UnitValues::start() {
  if (state_ != State::kEmpty) return;
  c10::NoGradGuard no_grad;
  if (kind_ == Kind::kCopy) {
    flat_.copy_(own_);
    state_ = State::kFilled;
    return;
  }
  c10::StorageImpl* storage = flat_.storage().unsafeGetStorageImpl();
  if (storage->nbytes() == 0) {
    const std::size_t num_bytes = flat_.nbytes();
    storage->set_data_ptr_noswap(storage->allocator()->allocate(num_bytes));
    storage->set_nbytes(num_bytes);
  }
  if (own_part_.defined()) own_part_.copy_(own_);
  work_ = shard_.all_gather_into(flat_, own_part_.defined() ? own_part_ : own_, name_);
  state_ = State::kUnderWay;
}

void UnitValues::wait() {
  GIMBAL_CHECK(state_ != State::kEmpty, "'", name_, "' was not started");
  if (state_ == State::kFilled) return;
  work_->wait();
  work_.reset();
  state_ = State::kFilled;
}

void UnitValues::free_storage() {
  if (!is_gathered()) return;
  if (state_ == State::kUnderWay) wait();
  state_ = State::kEmpty;
  c10::StorageImpl* storage = flat_.storage().unsafeGetStorageImpl();
  storage->set_nbytes(std::size_t{0});
  storage->set_data_ptr_noswap(c10::DataPtr(nullptr, storage->device()));
}

void UnitValues::mark_stale() {
  if (kind_ == Kind::kCopy) state_ = State::kEmpty;
  free_storage();
}

}  // namespace gimbal
