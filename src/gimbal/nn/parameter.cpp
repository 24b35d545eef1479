#include "gimbal/nn/parameter.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <cmath>
#include <numbers>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

constexpr std::int64_t kPairsPerChunk = 4096;

// The two normals of Box and Muller (1958) out of the halves of one 64-bit number. One instruction
// set for all machines, so that ranks on unlike machines agree.
void fill_normal(float* values, std::int64_t size, const CounterRng& rng, float deviation,
                 std::int64_t begin, std::int64_t end) {
  for (std::int64_t pair = begin; pair < end; ++pair) {
    const std::uint64_t bits = rng.bits(static_cast<std::uint64_t>(pair));
    // (0, 1]: the logarithm is finite.
    const float radial = (static_cast<float>(bits >> 40) + 1.0f) * 0x1.0p-24f;
    const float angle =
        static_cast<float>(bits & 0xffffffU) * (0x1.0p-24f * 2.0f * std::numbers::pi_v<float>);
    const float radius = deviation * std::sqrt(-2.0f * std::log(radial));
    values[2 * pair] = radius * std::cos(angle);
    if (2 * pair + 1 < size) values[2 * pair + 1] = radius * std::sin(angle);
  }
}

}  // namespace

std::int64_t Parameter::numel() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

ParameterPtr ParameterList::add(const std::string& name, std::vector<std::int64_t> shape,
                                Init init) {
  for (const ParameterPtr& other : parameters_)
    GIMBAL_CHECK(other->name != name, "two parameters are called ", name);
  auto parameter = std::make_shared<Parameter>();
  parameter->name = name;
  parameter->shape = std::move(shape);
  parameter->init = init;
  parameters_.push_back(parameter);
  return parameter;
}

at::Tensor initial_values(const Parameter& parameter, std::uint64_t seed) {
  if (parameter.init.kind == Init::Kind::kConstant)
    return at::full(parameter.shape, parameter.init.value, at::kFloat);
  at::Tensor result = at::empty(parameter.shape, at::kFloat);
  const std::int64_t size = result.numel();
  const std::int64_t num_pairs = (size + 1) / 2;
  const CounterRng rng(seed, hash_name(parameter.name));
  float* values = result.mutable_data_ptr<float>();
  const auto deviation = static_cast<float>(parameter.init.value);
  at::parallel_for(0, num_pairs, kPairsPerChunk, [&](std::int64_t begin, std::int64_t end) {
    fill_normal(values, size, rng, deviation, begin, end);
  });
  return result;
}

}  // namespace gimbal
