#include "gimbal/parallel/comm.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

class DoneWork : public CommWork {
 public:
  void wait() override {}
};

class SingleComm : public Comm {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  at::Device device() const override { return at::kCPU; }
  std::unique_ptr<CommWork> all_reduce_sum(at::Tensor, const std::string&) override {
    return std::make_unique<DoneWork>();
  }
  std::unique_ptr<CommWork> broadcast(at::Tensor, int root, const std::string& name) override {
    GIMBAL_CHECK(root == 0, "broadcast '", name, "' in a group of one");
    return std::make_unique<DoneWork>();
  }
  at::Tensor all_gather(const at::Tensor& tensor, const std::string&) override {
    return tensor.unsqueeze(0);
  }
  void barrier(const std::string&) override {}
};

}  // namespace

std::unique_ptr<Comm> make_single_comm() { return std::make_unique<SingleComm>(); }

std::vector<std::string> all_gather_bytes(Comm& comm, const std::string& bytes,
                                          const std::string& name) {
  if (comm.size() == 1) return {bytes};
  const at::Tensor length =
      at::full({1}, static_cast<std::int64_t>(bytes.size()), at::kLong).to(comm.device());
  const at::Tensor lengths = comm.all_gather(length, name + " (lengths)").to(at::kCPU);
  const std::int64_t* num_bytes = lengths.const_data_ptr<std::int64_t>();
  const std::int64_t longest = *std::max_element(num_bytes, num_bytes + comm.size());
  std::vector<std::string> result(static_cast<std::size_t>(comm.size()));
  if (longest == 0) return result;

  at::Tensor padded = at::zeros({longest}, at::kByte);
  std::memcpy(padded.mutable_data_ptr<std::uint8_t>(), bytes.data(), bytes.size());
  const at::Tensor gathered = comm.all_gather(padded.to(comm.device()), name).to(at::kCPU);
  const auto* data = reinterpret_cast<const char*>(gathered.const_data_ptr<std::uint8_t>());
  for (std::size_t i = 0; i < result.size(); ++i) {
    result[i].assign(data + static_cast<std::int64_t>(i) * longest,
                     static_cast<std::size_t>(num_bytes[i]));
  }
  return result;
}

}  // namespace gimbal
