#include "gimbal/nn/parameter.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

constexpr std::int64_t kValuesPerChunk = 8192;

// values[0] .. are the elements [first, last) of the whole parameter: the two normals of Box and
// Muller (1958) out of the halves of one 64-bit number for each two neighbours. One instruction set
// for all machines, so that ranks on unlike machines agree.
void fill_normal(float* values, std::int64_t first, std::int64_t last, const CounterRng& rng,
                 float deviation) {
  for (std::int64_t element = first / 2 * 2; element < last; element += 2) {
    const std::uint64_t bits = rng.bits(static_cast<std::uint64_t>(element / 2));
    // (0, 1]: the logarithm is finite.
    const float radial = (static_cast<float>(bits >> 40) + 1.0f) * 0x1.0p-24f;
    const float angle =
        static_cast<float>(bits & 0xffffffU) * (0x1.0p-24f * 2.0f * std::numbers::pi_v<float>);
    const float radius = deviation * std::sqrt(-2.0f * std::log(radial));
    if (element >= first) values[element - first] = radius * std::cos(angle);
    if (element + 1 < last) values[element + 1 - first] = radius * std::sin(angle);
  }
}

// A part lies in the whole parameter as runs of neighbours, one each `stride` elements.
struct PartRuns {
  std::int64_t first = 0, length = 0, stride = 0;
};

PartRuns runs_of(const Parameter& parameter) {
  PartRuns runs{0, parameter.numel(), parameter.full_numel()};
  if (parameter.sharded_dim < 0) return runs;
  const auto dim = static_cast<std::size_t>(parameter.sharded_dim);
  std::int64_t inner = 1;
  for (std::size_t i = dim + 1; i < parameter.shape.size(); ++i) inner *= parameter.shape[i];
  return {parameter.part_begin * inner, parameter.shape[dim] * inner,
          parameter.full_shape[dim] * inner};
}

std::int64_t product_of(const std::vector<std::int64_t>& sizes) {
  std::int64_t product = 1;
  for (const std::int64_t size : sizes) product *= size;
  return product;
}

}  // namespace

std::int64_t Parameter::numel() const { return product_of(shape); }

std::int64_t Parameter::full_numel() const { return product_of(full_shape); }

ParameterPtr ParameterList::add(const std::string& name, std::vector<std::int64_t> shape,
                                Init init) {
  for (const ParameterPtr& other : parameters_)
    GIMBAL_CHECK(other->name != name, "two parameters are called ", name);
  auto parameter = std::make_shared<Parameter>();
  parameter->name = name;
  parameter->full_shape = shape;
  parameter->shape = std::move(shape);
  parameter->init = init;
  parameters_.push_back(parameter);
  return parameter;
}

void take_part(Parameter& parameter, int dim, std::int64_t begin, std::int64_t size) {
  GIMBAL_CHECK(parameter.sharded_dim < 0, "parameter ", parameter.name, " is cut twice");
  GIMBAL_CHECK(dim >= 0 && dim < static_cast<int>(parameter.shape.size()), "parameter ",
               parameter.name, " has no dim ", dim);
  std::int64_t& rows = parameter.shape[static_cast<std::size_t>(dim)];
  GIMBAL_CHECK(begin >= 0 && size >= 0 && begin + size <= rows, "parameter ", parameter.name,
               ": part ", begin, " + ", size, " of ", rows);
  rows = size;
  parameter.sharded_dim = dim;
  parameter.part_begin = begin;
}

at::Tensor part_of(const Parameter& parameter, const at::Tensor& full) {
  if (parameter.sharded_dim < 0) return full;
  return full.narrow(parameter.sharded_dim, parameter.part_begin,
                     parameter.shape[static_cast<std::size_t>(parameter.sharded_dim)]);
}

at::Tensor initial_values(const Parameter& parameter, std::uint64_t seed) {
  if (parameter.init.kind == Init::Kind::kConstant)
    return at::full(parameter.shape, parameter.init.value, at::kFloat);
  at::Tensor result = at::empty(parameter.shape, at::kFloat);
  const PartRuns runs = runs_of(parameter);
  const CounterRng rng(seed, hash_name(parameter.name));
  float* values = result.mutable_data_ptr<float>();
  const auto deviation = static_cast<float>(parameter.init.value);
  at::parallel_for(0, result.numel(), kValuesPerChunk, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const std::int64_t run = begin / runs.length, place = begin % runs.length;
      const std::int64_t count = std::min(runs.length - place, end - begin);
      const std::int64_t first = runs.first + run * runs.stride + place;
      fill_normal(values + begin, first, first + count, rng, deviation);
      begin += count;
    }
  });
  return result;
}

}  // namespace gimbal
