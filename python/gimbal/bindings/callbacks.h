// Python functions that C++ calls while it runs without the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace gimbal::python {

/// Reports the share of the work that is done to a Python function (or to nobody), and looks for
/// Ctrl-C. Make it with the GIL held. Its copies share one state.
class Progress {
 public:
  /// `callback`: None, or a function of a share in [0, 1]; False as its result stops the work.
  explicit Progress(const pybind11::object& callback);

  /// Takes the GIL. False when the work is to stop: the function said so or raised, or a signal
  /// handler raised.
  bool report(double share) const;
  /// For C++ code that counts from 0 to 1: its shares become begin .. end.
  std::function<bool(double)> part(double begin, double end) const;
  /// Raises what made `report` return false: the Python exception, or gimbal.balance.Stopped.
  /// Needs the GIL.
  void raise_if_stopped() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// `callback` (None or int -> str) as a C++ function that takes the GIL.
std::function<std::string(std::uint32_t)> describe_function(const pybind11::object& callback);

}  // namespace gimbal::python
