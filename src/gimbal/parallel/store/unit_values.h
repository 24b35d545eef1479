// The values of a unit as blocks see them.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "gimbal/parallel/comm.h"

namespace gimbal {

/// One of three, by the setup: this rank's values themselves (one shard, equal dtypes); a copy of
/// them in the compute dtype (one shard); or the values of all shards, gathered in the compute
/// dtype into a buffer whose storage can be freed and filled again. Views of flat(), and tensors
/// that autograd has saved, see what is filled in later.
///
/// On CUDA the gather runs on the process group's own stream: it waits for what the current stream
/// has been given before start(), and the current stream waits for it at wait(). The storage is
/// allocated and freed on the current stream, after wait(): safe with the caching allocator.
class UnitValues {
 public:
  /// `own`: this rank's shard in the master dtype. Without values nothing is communicated.
  UnitValues(at::Tensor own, Comm& shard, at::ScalarType compute, std::string name);

  /// [all values of the unit] compute dtype; usable between wait() and free_storage().
  const at::Tensor& flat() const { return flat_; }
  bool is_gathered() const { return kind_ == Kind::kGathered; }

  /// Starts to fill flat(), unless it is filled or under way. Collective over shard when gathered.
  void start();
  void wait();
  /// Frees the storage of gathered values; start() fills it again. Without effect on others.
  void free_storage();
  /// `own` has been written: the next start() fills flat() again. Frees gathered values.
  void mark_stale();

 private:
  enum class Kind { kDirect, kCopy, kGathered };
  enum class State { kEmpty, kUnderWay, kFilled };

  at::Tensor own_;
  Comm& shard_;
  std::string name_;
  Kind kind_;
  State state_ = State::kEmpty;
  at::Tensor flat_;
  at::Tensor own_part_;  // of flat_; undefined when the gather reads own_ itself
  std::unique_ptr<CommWork> work_;
};

}  // namespace gimbal
