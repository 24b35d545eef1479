// How the Python side hands over what to pack and how.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "gimbal/balance/costs/cost_file.h"
#include "gimbal/balance/sampler.h"

namespace gimbal::python {

/// Sizes, caps and costs: what bounds, patterns and packing have in common. No costs: the default
/// ones.
struct Problem {
  HeldSizes sizes;
  PackCaps caps;
  std::vector<StreamCost> costs;

  Problem(Array32 rows, std::optional<Array64> pairs, std::vector<std::string> names,
          std::vector<std::uint64_t> row_caps, std::uint64_t samples_per_pack, double cost_cap,
          const std::vector<std::pair<double, double>>& stream_costs)
      : sizes(std::move(rows), std::move(pairs), std::move(names)) {
    caps.rows = std::move(row_caps);
    caps.samples = samples_per_pack;
    caps.cost = cost_cap;
    for (const auto& [per_row, per_pair] : stream_costs) costs.push_back({per_row, per_pair});
    if (costs.empty()) costs = default_costs(caps, sizes.view());
  }

  PackLimits limits() const { return PackLimits(sizes.view(), caps, costs); }
};

}  // namespace gimbal::python
