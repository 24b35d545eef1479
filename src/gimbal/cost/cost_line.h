// c0 + c1 * rows + c2 * pairs: the form of every measured or analytic cost.
#pragma once

namespace gimbal {

/// Seconds or bytes of a block as a function of its rows and of the sum of squared lengths.
struct CostLine {
  double base = 0;
  double per_row = 0;
  double per_pair = 0;

  double at(double rows, double pairs) const { return base + per_row * rows + per_pair * pairs; }
  bool operator==(const CostLine&) const = default;
};

}  // namespace gimbal
