#include "gimbal/balance/stream/stream_packer.h"

#include <pybind11/stl.h>

#include "bindings/bind.h"
#include "gimbal/balance/costs/cost_file.h"
#include "gimbal/balance/sampler.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

std::unique_ptr<StreamPacker> make(std::vector<std::string> names,
                                   std::vector<std::uint64_t> row_caps,
                                   std::uint64_t samples_per_pack, double cost_cap,
                                   const std::vector<std::pair<double, double>>& costs,
                                   std::uint64_t packs_per_slot, std::uint64_t window,
                                   OversizePolicy oversize, std::uint64_t seed) {
  StreamPackerOptions options;
  options.num_streams = static_cast<int>(names.size());
  options.names = std::move(names);
  options.caps.rows = std::move(row_caps);
  options.caps.samples = samples_per_pack;
  options.caps.cost = cost_cap;
  for (const auto& [per_row, per_pair] : costs) options.costs.push_back({per_row, per_pair});
  if (options.costs.empty()) {
    SampleSizes none_yet;
    none_yet.num_streams = options.num_streams;
    options.costs = default_costs(options.caps, none_yet);
  }
  options.packs_per_slot = packs_per_slot;
  options.window = window;
  options.oversize = oversize;
  options.seed = seed;
  return std::make_unique<StreamPacker>(std::move(options));
}

}  // namespace

void bind_stream_packer(py::module_& m) {
  // The GIL is kept: a packer is not for several threads, and most calls take a microsecond.
  py::class_<StreamPacker>(m, "StreamPacker")
      .def(py::init(&make), py::kw_only(), py::arg("names"), py::arg("row_caps"),
           py::arg("samples_per_pack"), py::arg("cost_cap"), py::arg("costs"),
           py::arg("packs_per_slot"), py::arg("window"), py::arg("oversize"), py::arg("seed"))
      .def(
          "push",
          [](StreamPacker& self, std::uint64_t id, const std::vector<std::uint32_t>& rows) {
            self.push(id, rows);
          },
          py::arg("id"), py::arg("rows"))
      .def("finish", &StreamPacker::finish)
      .def("next_slot", &StreamPacker::next_slot)
      .def_property_readonly("samples_in", &StreamPacker::samples_in)
      .def_property_readonly("samples_out", &StreamPacker::samples_out)
      .def("take_rejected", &StreamPacker::take_rejected)
      .def("save", [](const StreamPacker& self) { return py::bytes(self.save()); })
      .def(
          "load", [](StreamPacker& self, const py::bytes& state) { self.load(state); },
          py::arg("state"));
}

}  // namespace gimbal::python
