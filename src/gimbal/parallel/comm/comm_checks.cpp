#include "gimbal/parallel/comm/comm_checks.h"

#include <algorithm>
#include <numeric>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

const char* first_byte(const at::Tensor& tensor) {
  return static_cast<const char*>(tensor.const_data_ptr());
}

bool overlap(const at::Tensor& a, const at::Tensor& b) {
  return first_byte(a) < first_byte(b) + b.nbytes() && first_byte(b) < first_byte(a) + a.nbytes();
}

void check_rows(const at::Tensor& tensor, const std::vector<std::int64_t>& rows, int size,
                const std::string& name) {
  GIMBAL_CHECK_EQ(static_cast<int>(rows.size()), size, "ranks of '", name, "'");
  GIMBAL_CHECK(std::ranges::all_of(rows, [](std::int64_t n) { return n >= 0; }),
               "negative rows of '", name, "'");
  GIMBAL_CHECK(tensor.dim() >= 1, "'", name, "' has no rows");
  GIMBAL_CHECK_EQ(tensor.size(0), std::accumulate(rows.begin(), rows.end(), std::int64_t{0}),
                  "rows of '", name, "'");
}

}  // namespace

void check_comm_tensor(const at::Tensor& tensor, const at::Device& device,
                       const std::string& name) {
  GIMBAL_CHECK(tensor.defined(), "'", name, "' is undefined");
  GIMBAL_CHECK(tensor.is_contiguous(), "'", name, "' is not contiguous");
  GIMBAL_CHECK(tensor.device() == device, "'", name, "' is on ", tensor.device().str(),
               ", the group on ", device.str());
}

void check_summable(const at::Tensor& tensor, const std::string& name) {
  const at::ScalarType dtype = tensor.scalar_type();
  GIMBAL_CHECK(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16 ||
                   dtype == at::kHalf || dtype == at::kLong || dtype == at::kInt ||
                   dtype == at::kByte,
               "'", name, "' cannot be summed as ", c10::toString(dtype));
}

void check_parts(const at::Tensor& whole, const at::Tensor& part, int rank, int size,
                 const std::string& name) {
  GIMBAL_CHECK_EQ(whole.numel(), part.numel() * size, "values of '", name, "'");
  GIMBAL_CHECK(whole.scalar_type() == part.scalar_type(), "dtypes of '", name, "'");
  if (part.numel() == 0 || !overlap(whole, part)) return;
  GIMBAL_CHECK(
      first_byte(part) == first_byte(whole) + static_cast<std::size_t>(rank) * part.nbytes(), "'",
      name, "' overlaps another rank's part");
}

void check_all_gather_rows(const at::Tensor& out, const at::Tensor& in,
                           const std::vector<std::int64_t>& rows_of_ranks, int rank, int size,
                           const std::string& name) {
  check_rows(out, rows_of_ranks, size, name);
  GIMBAL_CHECK(in.dim() >= 1, "'", name, "' has no rows");
  const auto own = rows_of_ranks.begin() + rank;
  GIMBAL_CHECK_EQ(in.size(0), *own, "own rows of '", name, "'");
  GIMBAL_CHECK(out.scalar_type() == in.scalar_type(), "dtypes of '", name, "'");
  GIMBAL_CHECK(out.sizes().slice(1) == in.sizes().slice(1), "row shapes of '", name, "'");
  if (in.numel() == 0 || !overlap(out, in)) return;
  const std::int64_t before = std::accumulate(rows_of_ranks.begin(), own, std::int64_t{0});
  const std::size_t row_bytes = in.nbytes() / static_cast<std::size_t>(*own);
  GIMBAL_CHECK(first_byte(in) == first_byte(out) + static_cast<std::size_t>(before) * row_bytes,
               "'", name, "' overlaps another rank's part");
}

void check_all_to_all(const at::Tensor& out, const at::Tensor& in,
                      const std::vector<std::int64_t>& out_rows,
                      const std::vector<std::int64_t>& in_rows, int rank, int size,
                      const std::string& name) {
  check_rows(out, out_rows, size, name);
  check_rows(in, in_rows, size, name);
  GIMBAL_CHECK_EQ(in_rows[static_cast<std::size_t>(rank)], out_rows[static_cast<std::size_t>(rank)],
                  "own rows of '", name, "'");
  GIMBAL_CHECK(out.scalar_type() == in.scalar_type(), "dtypes of '", name, "'");
  GIMBAL_CHECK(out.sizes().slice(1) == in.sizes().slice(1), "row shapes of '", name, "'");
  GIMBAL_CHECK(out.numel() == 0 || in.numel() == 0 || !overlap(out, in), "'", name,
               "' is sent and received in the same memory");
}

}  // namespace gimbal
