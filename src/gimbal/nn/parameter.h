// Parameters: name, shape and initial values from the start, storage only when a ParameterStore
// binds it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
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

struct Parameter {
  std::string name;  // unique in the model, e.g. "text.0.attention.q_proj.weight"
  std::vector<std::int64_t> shape;
  Init init;
  bool trainable = true;
  /// Bound by the store while its block is open: a leaf of the compute dtype. Undefined otherwise.
  at::Tensor value;

  std::int64_t numel() const;
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

/// The values of an unloaded parameter, float32: a function of (seed, name, element), the same on
/// every rank and layout.
at::Tensor initial_values(const Parameter& parameter, std::uint64_t seed);

}  // namespace gimbal
