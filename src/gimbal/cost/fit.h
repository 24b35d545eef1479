// Least squares with coefficients that cannot be negative.
#pragma once

#include <span>

#include "gimbal/cost/cost_line.h"

namespace gimbal {

struct Measurement {
  double rows = 0;
  double pairs = 0;
  double value = 0;  // seconds or bytes
};

struct FittedLine {
  CostLine line;
  double residual = 0;  // root mean square of (fitted / measured - 1) over measured values above 0
};

/// Fits value = c0 + c1 * rows + c2 * pairs with c >= 0, minimising relative errors (each
/// measurement weighs 1 / value^2; a value of 0 weighs as the smallest above 0), exactly: the best
/// of the sign patterns, each solved by QR. Coefficients that the measurements cannot tell apart
/// (all pairs proportional to rows) are put on rows. Throws UserError for no measurement or values
/// that are negative or not finite.
FittedLine fit_line(std::span<const Measurement> measurements);

}  // namespace gimbal
