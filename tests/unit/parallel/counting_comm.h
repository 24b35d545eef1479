// A group of ranks of which only one exists: it notes the calls and behaves as if the others had
// the same tensors.
#pragma once

#include <ATen/TensorOperators.h>
#include <c10/core/GradMode.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"

namespace gimbal::toy {

/// Results are there when wait() returns, not before: what reads them too early sees what was
/// there.
class CountingComm : public Comm {
 public:
  explicit CountingComm(int size = 2, int rank = 0, std::vector<std::string>* log = nullptr)
      : size_(size), rank_(rank), log_(log != nullptr ? *log : calls) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  at::Device device() const override { return at::kCPU; }
  std::string transport() const override { return "none"; }
  std::unique_ptr<CommWork> all_reduce_sum(at::Tensor tensor, const std::string& name) override {
    note("sum", name);
    return later([this, tensor] { tensor.mul_(size_); });
  }
  std::unique_ptr<CommWork> broadcast(at::Tensor, int, const std::string& name) override {
    note("broadcast", name);
    return later([] {});
  }
  at::Tensor all_gather(const at::Tensor& tensor, const std::string& name) override {
    note("all_gather", name);
    return tensor;
  }
  std::unique_ptr<CommWork> all_gather_into(at::Tensor out, at::Tensor in,
                                            const std::string& name) override {
    GIMBAL_CHECK_EQ(out.numel(), size_ * in.numel());
    note("gather", name);
    return later([this, out, in] { out.view({size_, -1}).copy_(in.clone()); });
  }
  std::unique_ptr<CommWork> reduce_scatter_sum(at::Tensor out, at::Tensor in,
                                               const std::string& name) override {
    GIMBAL_CHECK_EQ(in.numel(), size_ * out.numel());
    note("scatter", name);
    return later([this, out, in] { out.copy_(in.view({size_, -1})[rank_].clone().mul_(size_)); });
  }
  std::unique_ptr<CommWork> all_to_all(at::Tensor, at::Tensor, const std::vector<std::int64_t>&,
                                       const std::vector<std::int64_t>&,
                                       const std::string& name) override {
    note("all_to_all", name);
    return later([] {});
  }
  std::unique_ptr<CommWork> send(at::Tensor, int to, const std::string& name) override {
    note("send to " + std::to_string(to), name);
    return later([] {});
  }
  std::unique_ptr<CommWork> receive(at::Tensor tensor, int from, const std::string& name) override {
    note("receive from " + std::to_string(from), name);
    return later([tensor] { tensor.fill_(100.0); });
  }
  void barrier(const std::string& name) override { note("barrier", name); }

  std::vector<std::string> calls;  // "CALL NAME"

 private:
  class Later : public CommWork {
   public:
    explicit Later(std::function<void()> work) : work_(std::move(work)) {}
    void wait() override {
      c10::NoGradGuard no_grad;
      work_();
    }

   private:
    std::function<void()> work_;
  };
  static std::unique_ptr<CommWork> later(std::function<void()> work) {
    return std::make_unique<Later>(std::move(work));
  }
  void note(const std::string& call, const std::string& name) { log_.push_back(call + " " + name); }

  int size_, rank_;
  std::vector<std::string>& log_;
};

}  // namespace gimbal::toy
