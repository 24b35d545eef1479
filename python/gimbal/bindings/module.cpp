// gimbal._native: what Python uses of src/gimbal. Not for users: gimbal.balance and gimbal.plan
// are, and check what is handed over here.
#include <pybind11/pybind11.h>

#include <exception>
#include <numeric>

#include "bindings/arrays.h"
#include "bindings/bind.h"
#include "gimbal/base/error.h"

namespace py = pybind11;

namespace gimbal::python {

std::vector<std::uint32_t> all_samples(std::size_t count) {
  std::vector<std::uint32_t> samples(count);
  std::iota(samples.begin(), samples.end(), 0u);
  return samples;
}

}  // namespace gimbal::python

PYBIND11_MODULE(_native, m) {
  m.doc() = "The C++ side of gimbal.balance and gimbal.plan.";
  m.attr("__version__") = GIMBAL_VERSION;
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const gimbal::UserError& error) {
      const py::object type = py::module_::import("gimbal").attr("UserError");
      py::set_error(type, error.what());
    } catch (const gimbal::InternalError& error) {
      py::set_error(PyExc_RuntimeError, error.what());
    }
  });
  gimbal::python::bind_arch(m);
  gimbal::python::bind_patterns(m);
  gimbal::python::bind_epoch(m);
  gimbal::python::bind_bounds(m);
  gimbal::python::bind_files(m);
  gimbal::python::bind_rebalance(m);
  gimbal::python::bind_stream_packer(m);
  gimbal::python::bind_schedule(m);
  gimbal::python::bind_plan(m);
  gimbal::python::bind_pipeline(m);
}
