#include "gimbal/schedule/schedule.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/bind.h"
#include "gimbal/schedule/text.h"
#include "gimbal/schedule/validate.h"

namespace py = pybind11;

namespace gimbal::python {

// Schedules cross over as their text.
void bind_schedule(py::module_& m) {
  m.def(
      "make_schedule",
      [](const std::string& kind, int ranks, int stages_per_rank, int micro_batches) {
        return format_schedule(
            make_schedule({pipeline_kind(kind), ranks, stages_per_rank, micro_batches}));
      },
      py::arg("kind"), py::arg("ranks"), py::arg("stages_per_rank"), py::arg("micro_batches"));
  m.def(
      "parse_schedule",
      [](const std::string& text, const std::string& where) {
        return format_schedule(parse_schedule(text, where));
      },
      py::arg("text"), py::arg("where"));
  m.def(
      "check_schedule",
      [](const std::string& text) {
        const ScheduleCheck check = check_schedule(parse_schedule(text, "schedule"));
        return py::make_tuple(check.problems, check.in_flight);
      },
      py::arg("text"));
}

}  // namespace gimbal::python
