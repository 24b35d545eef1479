#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "bindings/arrays.h"
#include "bindings/bind.h"
#include "gimbal/balance/costs/cost_file.h"
#include "gimbal/balance/pack_file.h"
#include "gimbal/data/length_table.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

void save(const std::filesystem::path& file, const Array64& offsets, const Array32& samples,
          std::uint64_t num_samples, std::uint64_t packs_per_step, std::uint64_t packs_per_slot,
          std::uint64_t seed, std::uint64_t epoch) {
  PackFile content;
  content.packs.offsets.assign(offsets.data(), offsets.data() + offsets.size());
  content.packs.samples.assign(samples.data(), samples.data() + samples.size());
  content.num_samples = num_samples;
  content.packs_per_step = packs_per_step;
  content.packs_per_slot = packs_per_slot;
  content.seed = seed;
  content.epoch = epoch;
  const py::gil_scoped_release release;
  save_packs(content, file);
}

py::dict load(const std::filesystem::path& file) {
  PackFile content;
  {
    const py::gil_scoped_release release;
    content = load_packs(file);
  }
  py::dict d;
  d["num_samples"] = content.num_samples;
  d["packs_per_step"] = content.packs_per_step;
  d["packs_per_slot"] = content.packs_per_slot;
  d["seed"] = content.seed;
  d["epoch"] = content.epoch;
  d["offsets"] = owning_array(std::move(content.packs.offsets));
  d["samples"] = owning_array(std::move(content.packs.samples));
  return d;
}

py::array rows_of(const py::object& self) {
  const auto& table = self.cast<const LengthTable&>();
  return read_only_view(table.rows.data(), table.rows.size(), self)
      .reshape({static_cast<py::ssize_t>(table.num_samples()),
                static_cast<py::ssize_t>(table.streams.size())});
}

py::object pairs_of(const py::object& self) {
  const auto& table = self.cast<const LengthTable&>();
  if (table.pairs.empty()) return py::none();
  return read_only_view(table.pairs.data(), table.pairs.size(), self)
      .reshape({static_cast<py::ssize_t>(table.num_samples()),
                static_cast<py::ssize_t>(table.streams.size())});
}

std::vector<std::pair<double, double>> pairs_of_costs(const std::vector<StreamCost>& costs) {
  std::vector<std::pair<double, double>> result;
  for (const StreamCost& cost : costs) result.emplace_back(cost.per_row, cost.per_pair);
  return result;
}

}  // namespace

void bind_files(py::module_& m) {
  m.def(
      "read_cost_file",
      [](const std::filesystem::path& file, const std::vector<std::string>& streams) {
        return pairs_of_costs(read_cost_file(file, streams));
      },
      py::arg("file"), py::arg("streams"));
  m.def(
      "model_costs",
      [](const std::filesystem::path& config, const std::vector<std::string>& streams,
         double head_share) { return pairs_of_costs(model_costs(config, streams, head_share)); },
      py::arg("config"), py::arg("streams"), py::arg("head_share"));
  m.def("save_packs", &save, py::arg("file"), py::kw_only(), py::arg("offsets"), py::arg("samples"),
        py::arg("num_samples"), py::arg("packs_per_step"), py::arg("packs_per_slot"),
        py::arg("seed"), py::arg("epoch"));
  m.def("load_packs", &load, py::arg("file"));
  py::class_<LengthTable>(m, "LengthTable")
      .def_readonly("streams", &LengthTable::streams)
      .def_readonly("source_names", &LengthTable::source_names)
      .def_readonly("source_weights", &LengthTable::source_weights)
      .def_property_readonly("rows", &rows_of)
      .def_property_readonly("pairs", &pairs_of)
      .def_property_readonly("sources",
                             [](const py::object& self) {
                               const auto& sources = self.cast<const LengthTable&>().sources;
                               return read_only_view(sources.data(), sources.size(), self);
                             })
      .def("describe_sample", &LengthTable::describe_sample, py::arg("sample"));
  m.def(
      "read_length_csv",
      [](const std::vector<std::filesystem::path>& files) {
        const py::gil_scoped_release release;
        return std::make_unique<LengthTable>(read_length_csv(files));
      },
      py::arg("files"));
  m.def(
      "read_dataset_lengths",
      [](const std::filesystem::path& folder) {
        const py::gil_scoped_release release;
        return std::make_unique<LengthTable>(read_dataset_lengths(folder));
      },
      py::arg("folder"));
}

}  // namespace gimbal::python
