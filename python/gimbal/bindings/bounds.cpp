#include "gimbal/balance/bound/fast.h"

#include "bindings/bind.h"
#include "bindings/callbacks.h"
#include "bindings/options.h"
#include "gimbal/balance/bound/lp.h"
#include "gimbal/balance/caps/caps.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

std::uint64_t fast_bound(const Problem& problem) {
  const py::gil_scoped_release release;
  const PackLimits limits = problem.limits();
  return fast_lower_bound(limits, all_samples(limits.sizes().num_samples()));
}

std::uint64_t lp_bound(const Problem& problem, double max_seconds, std::uint64_t known_packs,
                       const py::object& function) {
  const Progress progress(function);
  LpBound bound;
  {
    const py::gil_scoped_release release;
    const PackLimits limits = problem.limits();
    bound = lp_lower_bound(limits, all_samples(limits.sizes().num_samples()), max_seconds,
                           known_packs, progress.part(0, 1));
  }
  progress.raise_if_stopped();
  return bound.packs;
}

py::dict point(const CapPoint& p) {
  py::dict d;
  d["caps"] = p.caps.rows;
  d["cost_per_sample"] = p.cost_per_sample;
  d["error"] = p.error;
  d["packs"] = p.packs;
  d["fill"] = p.fill;
  return d;
}

py::tuple best_cap(const Problem& problem, int stream, std::optional<double> pack_overhead,
                   bool phases_in_parallel, std::uint64_t ranks, double memory_bytes,
                   std::vector<double> bytes_per_row, std::uint64_t seed) {
  CapSearch search;
  search.stream = stream;
  search.caps = problem.caps;
  search.costs = problem.costs;
  search.pack_overhead = pack_overhead;
  search.phases_in_parallel = phases_in_parallel;
  search.ranks = ranks;
  search.memory_bytes = memory_bytes;
  search.bytes_per_row = std::move(bytes_per_row);
  search.seed = seed;
  CapChoice choice;
  {
    const py::gil_scoped_release release;
    choice = choose_cap(problem.sizes.view(), search);
  }
  py::list curve;
  for (const CapPoint& p : choice.curve) curve.append(point(p));
  return py::make_tuple(choice.caps.rows, choice.closed_form, choice.pack_overhead, curve);
}

}  // namespace

void bind_bounds(py::module_& m) {
  m.def("fast_lower_bound", &fast_bound, py::arg("problem"));
  m.def("lp_lower_bound", &lp_bound, py::arg("problem"), py::arg("max_seconds"),
        py::arg("known_packs"), py::arg("progress"));
  m.def("choose_cap", &best_cap, py::arg("problem"), py::kw_only(), py::arg("stream"),
        py::arg("pack_overhead"), py::arg("phases_in_parallel"), py::arg("ranks"),
        py::arg("memory_bytes"), py::arg("bytes_per_row"), py::arg("seed"));
}

}  // namespace gimbal::python
