// What both sides of gimbal.plan hand over: plans as JSON text, work as rows of five numbers.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/plan/planner.h"

namespace gimbal::python {

/// [micro-batches, 5]: text rows, text pairs, loss rows, vision rows, vision pairs.
using WorkArray = pybind11::array_t<double, pybind11::array::c_style>;

std::vector<WorkSize> to_works(const WorkArray& works);
WorkArray to_array(const std::vector<WorkSize>& works);
/// Per block.
std::vector<Recompute> to_levels(const std::vector<std::string>& names);
std::vector<std::string> level_names(const std::vector<Recompute>& levels);

}  // namespace gimbal::python
