// Parameters: name, shape and initial values from the start, storage only when a ParameterStore
// binds it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gimbal {

/// How a parameter is filled when there are no weights to load.
struct Init {
  enum class Kind { kNormal, kConstant };
  Kind kind = Kind::kNormal;
  double value = 0.02;  // standard deviation, or the constant
};

/// Weight gradients that a backward pass has put off (zero-bubble schedules): each task adds one to
/// its parameter's gradient and keeps alive what it needs.
struct DeferredGradients {
  std::vector<std::function<void()>> tasks;
};

struct Parameter {
  std::string name;                 // unique in the model, e.g. "text.0.attention.q_proj.weight"
  std::vector<std::int64_t> shape;  // of this rank's part
  Init init;
  bool trainable = true;
  /// Bound by the store while its block is open: a leaf of the compute dtype. Undefined otherwise.
  at::Tensor value;
  /// Set by the tape while the block's forward runs: products put their weight gradient off into it
  /// instead of computing it in backward. Null: nothing is put off.
  DeferredGradients* deferred = nullptr;

  // Tensor parallel: this rank has the indices [part_begin, part_begin + shape[sharded_dim]) of
  // `sharded_dim` of the whole parameter. -1: the whole parameter.
  int sharded_dim = -1;
  std::int64_t part_begin = 0;
  std::vector<std::int64_t> full_shape;

  /// Values of this rank's part.
  std::int64_t numel() const;
  /// Values of the whole parameter.
  std::int64_t full_numel() const;
};

using ParameterPtr = std::shared_ptr<Parameter>;

/// Collects the parameters that a block's layers make, in order.
class ParameterList {
 public:
  /// Names are joined to "prefix.name".
  ParameterPtr add(const std::string& name, std::vector<std::int64_t> shape, Init init);
  const std::vector<ParameterPtr>& all() const { return parameters_; }

 private:
  std::vector<ParameterPtr> parameters_;
};

/// Keeps the part [begin, begin + size) of `dim`; before storage is made.
void take_part(Parameter& parameter, int dim, std::int64_t begin, std::int64_t size);

/// This rank's part of the whole parameter's values (a view).
at::Tensor part_of(const Parameter& parameter, const at::Tensor& full);

/// The values of this rank's part of an unloaded parameter, float32: a function of (seed, name,
/// element of the whole), the same on every rank and layout.
at::Tensor initial_values(const Parameter& parameter, std::uint64_t seed);

}  // namespace gimbal
