// The two largest of some values.
#pragma once

#include <algorithm>

namespace gimbal {

/// Sum of the two largest of the values that it is told, none of them below 0.
template <typename T>
class TwoLargest {
 public:
  void add(T value) {
    second_ = std::max(second_, std::min(value, first_));
    first_ = std::max(first_, value);
  }
  T sum() const { return first_ + second_; }

 private:
  T first_ = 0, second_ = 0;
};

}  // namespace gimbal
