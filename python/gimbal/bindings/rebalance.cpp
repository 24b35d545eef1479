#include "gimbal/balance/rebalance/rebalance.h"

#include "bindings/arrays.h"
#include "bindings/bind.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

py::dict plan(const Array32& owners, const py::array_t<double, py::array::c_style>& costs,
              const Array64& in_bytes, const Array64& out_bytes, std::uint32_t ranks,
              double tolerance) {
  std::vector<MediaItem> items(static_cast<std::size_t>(owners.size()));
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i] = {owners.data()[i], costs.data()[i], in_bytes.data()[i], out_bytes.data()[i]};
  }
  RebalancePlan plan;
  {
    const py::gil_scoped_release release;
    plan = plan_rebalance(items, ranks, {tolerance});
  }
  const auto square = [ranks](std::vector<std::uint64_t>&& values) {
    return owning_array(std::move(values)).reshape({ranks, ranks});
  };
  py::dict d;
  d["encoder"] = owning_array(std::move(plan.encoder));
  d["split_items"] = square(std::move(plan.split_items));
  d["split_in_bytes"] = square(std::move(plan.split_in_bytes));
  d["split_out_bytes"] = square(std::move(plan.split_out_bytes));
  d["rank_cost"] = owning_array(std::move(plan.rank_cost));
  d["max_cost_before"] = plan.max_cost_before;
  d["max_cost"] = plan.max_cost;
  d["max_cost_lower_bound"] = plan.max_cost_lower_bound;
  d["moved_bytes"] = plan.moved_bytes;
  return d;
}

}  // namespace

void bind_rebalance(py::module_& m) {
  m.def("plan_rebalance", &plan, py::arg("owners"), py::arg("costs"), py::arg("in_bytes"),
        py::arg("out_bytes"), py::arg("ranks"), py::arg("tolerance"));
}

}  // namespace gimbal::python
