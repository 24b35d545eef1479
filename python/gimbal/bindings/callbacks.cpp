#include "bindings/callbacks.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

// A function that may be let go of without the GIL.
std::shared_ptr<py::object> share(const py::object& object) {
  return {new py::object(object), [](py::object* held) {
            const py::gil_scoped_acquire gil;
            delete held;
          }};
}

}  // namespace

struct Progress::State {
  std::shared_ptr<py::object> callback;  // null: nobody listens
  std::optional<py::error_already_set> error;
  bool stopped = false;
};

Progress::Progress(const py::object& callback)
    : state_(new State, [](State* state) {
        const py::gil_scoped_acquire gil;
        delete state;
      }) {
  if (!callback.is_none()) state_->callback = share(callback);
}

bool Progress::report(double share) const {
  const py::gil_scoped_acquire gil;
  if (state_->stopped || state_->error) return false;
  try {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (state_->callback) {
      const py::object result = (*state_->callback)(share);
      state_->stopped = result.ptr() == Py_False;
    }
  } catch (py::error_already_set& error) {
    state_->error.emplace(error);
  }
  return !state_->stopped && !state_->error;
}

std::function<bool(double)> Progress::part(double begin, double end) const {
  return [self = *this, begin, end](double share) {
    return self.report(begin + (end - begin) * share);
  };
}

void Progress::raise_if_stopped() const {
  if (state_->error) throw py::error_already_set(*state_->error);
  if (state_->stopped) {
    const py::object stopped = py::module_::import("gimbal.balance.errors").attr("Stopped");
    py::set_error(stopped, "stopped by the progress function");
    throw py::error_already_set();
  }
}

std::function<std::string(std::uint32_t)> describe_function(const py::object& callback) {
  if (callback.is_none()) return {};
  return [held = share(callback)](std::uint32_t sample) {
    const py::gil_scoped_acquire gil;
    return py::cast<std::string>((*held)(sample));
  };
}

}  // namespace gimbal::python
