#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <memory>

#include "bindings/bind.h"
#include "gimbal/balance/patterns/pattern_set.h"

namespace py = pybind11;

namespace gimbal::python {

void bind_patterns(py::module_& m) {
  py::class_<PatternSet, std::shared_ptr<PatternSet>>(
      m, "Patterns", "How many samples of which size fill a pack, for a data set and caps.")
      .def_property_readonly("fingerprint", &PatternSet::fingerprint)
      .def_readonly("caps", &PatternSet::caps)
      .def_readonly("lp_value", &PatternSet::lp_value)
      .def_readonly("seconds", &PatternSet::seconds)
      .def_readonly("complete", &PatternSet::complete)
      .def("__len__", [](const PatternSet& set) { return set.patterns.size(); })
      .def(
          "save",
          [](const PatternSet& set, const std::filesystem::path& file) {
            save_patterns(set, file);
          },
          py::arg("file"))
      .def_static(
          "load",
          [](const std::filesystem::path& file) {
            return std::make_shared<PatternSet>(load_patterns(file));
          },
          py::arg("file"));
}

}  // namespace gimbal::python
