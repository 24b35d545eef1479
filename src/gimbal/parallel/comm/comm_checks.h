// What the calls of a Comm demand of their tensors. A backend that meets a violation itself ends
// the process. Included by comm_*.cpp only.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gimbal {

/// Defined, contiguous, on `device`.
void check_comm_tensor(const at::Tensor& tensor, const at::Device& device, const std::string& name);
/// A dtype that can be added up.
void check_summable(const at::Tensor& tensor, const std::string& name);
/// `whole` has `size` times the values of `part`, in the same dtype; when the memory of the two
/// overlaps, `part` is part number `rank` of `whole`.
void check_parts(const at::Tensor& whole, const at::Tensor& part, int rank, int size,
                 const std::string& name);
/// `out` has the rows of all ranks, `in` those of `rank`; when the memory of the two overlaps, `in`
/// is its own part of `out`.
void check_all_gather_rows(const at::Tensor& out, const at::Tensor& in,
                           const std::vector<std::int64_t>& rows_of_ranks, int rank, int size,
                           const std::string& name);
void check_all_to_all(const at::Tensor& out, const at::Tensor& in,
                      const std::vector<std::int64_t>& out_rows,
                      const std::vector<std::int64_t>& in_rows, int rank, int size,
                      const std::string& name);

}  // namespace gimbal
