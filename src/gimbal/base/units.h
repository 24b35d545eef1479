// Quantities of the planner. Plain numbers; the names say the unit.
#pragma once

namespace gimbal {

using Seconds = double;
using Bytes = double;
using Flops = double;

}  // namespace gimbal
