// numpy arrays as the spans that gimbal/balance works on, and back, without copies.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gimbal/balance/sizes.h"
#include "gimbal/base/error.h"

namespace gimbal::python {

using Array32 = pybind11::array_t<std::uint32_t, pybind11::array::c_style>;
using Array64 = pybind11::array_t<std::uint64_t, pybind11::array::c_style>;

/// The caller's arrays, held while something refers to them. The Python side has checked them.
class HeldSizes {
 public:
  HeldSizes(Array32 rows, std::optional<Array64> pairs, std::vector<std::string> names)
      : rows_(std::move(rows)), pairs_(std::move(pairs)), names_(std::move(names)) {
    GIMBAL_CHECK_EQ(rows_.ndim(), 2, "dimensions of sizes");
    if (pairs_) GIMBAL_CHECK_EQ(pairs_->size(), rows_.size(), "pairs, sizes");
    GIMBAL_CHECK_EQ(names_.size(), static_cast<std::size_t>(rows_.shape(1)), "names, streams");
  }

  SampleSizes view() const {
    SampleSizes sizes;
    sizes.rows = {rows_.data(), static_cast<std::size_t>(rows_.size())};
    sizes.num_streams = static_cast<int>(names_.size());
    if (pairs_) sizes.pairs = {pairs_->data(), static_cast<std::size_t>(pairs_->size())};
    sizes.names = names_;
    return sizes;
  }

 private:
  Array32 rows_;
  std::optional<Array64> pairs_;
  std::vector<std::string> names_;
};

/// A read-only array over memory that `owner` keeps alive.
template <typename T>
pybind11::array read_only_view(const T* data, std::size_t count, const pybind11::handle& owner) {
  pybind11::array_t<T> view(static_cast<pybind11::ssize_t>(count), data, owner);
  view.attr("flags").attr("writeable") = false;
  return view;
}

/// An array that takes over the vector.
template <typename T>
pybind11::array owning_array(std::vector<T>&& values) {
  auto* held = new std::vector<T>(std::move(values));
  const pybind11::capsule owner(held, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return read_only_view(held->data(), held->size(), owner);
}

/// 0, 1, ... count - 1.
std::vector<std::uint32_t> all_samples(std::size_t count);

}  // namespace gimbal::python
