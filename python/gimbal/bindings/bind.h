// One function per concept; each adds its classes and functions to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace gimbal::python {

void bind_arch(pybind11::module_& m);
void bind_patterns(pybind11::module_& m);
void bind_epoch(pybind11::module_& m);
void bind_bounds(pybind11::module_& m);
void bind_files(pybind11::module_& m);
void bind_rebalance(pybind11::module_& m);
void bind_stream_packer(pybind11::module_& m);
void bind_schedule(pybind11::module_& m);
void bind_plan(pybind11::module_& m);
void bind_pipeline(pybind11::module_& m);

}  // namespace gimbal::python
