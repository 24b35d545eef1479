// Ranks as threads of one process, for tests of what all ranks do together.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"

namespace gimbal::testing {

/// Where the threads of a group put their tensors and take everybody's.
class RankTable {
 public:
  explicit RankTable(int size, std::chrono::milliseconds timeout)
      : timeout_(timeout), tensors_(static_cast<std::size_t>(size)) {}

  std::vector<at::Tensor> exchange(int rank, const at::Tensor& tensor) {
    std::unique_lock lock(mutex_);
    tensors_[static_cast<std::size_t>(rank)] = tensor.clone();
    const auto round = round_;
    if (++arrived_ == tensors_.size()) {
      arrived_ = 0;
      ++round_;
      result_ = tensors_;
      changed_.notify_all();
    }
    const bool all_came = changed_.wait_for(lock, timeout_, [&] { return round_ != round; });
    GIMBAL_CHECK(all_came, "not all ranks came to the collective");
    return result_;
  }

 private:
  const std::chrono::milliseconds timeout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<at::Tensor> tensors_, result_;
  std::size_t arrived_ = 0;
  std::uint64_t round_ = 0;
};

/// Gathers and sums; nothing else.
class RankComm : public Comm {
 public:
  RankComm(RankTable& table, int rank, int size) : table_(table), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  at::Device device() const override { return at::kCPU; }
  std::string transport() const override { return "none"; }

  using Work = std::unique_ptr<CommWork>;
  at::Tensor all_gather(const at::Tensor& tensor, const std::string&) override {
    return at::stack(table_.exchange(rank_, tensor));
  }
  Work all_reduce_sum(at::Tensor tensor, const std::string&) override {
    tensor.copy_(at::stack(table_.exchange(rank_, tensor)).sum(0));
    return std::make_unique<Done>();
  }
  void barrier(const std::string&) override { table_.exchange(rank_, at::empty({0})); }

  Work broadcast(at::Tensor, int, const std::string&) override { return no(); }
  Work all_gather_into(at::Tensor, at::Tensor, const std::string&) override { return no(); }
  Work reduce_scatter_sum(at::Tensor, at::Tensor, const std::string&) override { return no(); }
  Work all_to_all(at::Tensor, at::Tensor, const std::vector<std::int64_t>&,
                  const std::vector<std::int64_t>&, const std::string&) override {
    return no();
  }
  Work send(at::Tensor, int, const std::string&) override { return no(); }
  Work receive(at::Tensor, int, const std::string&) override { return no(); }

 private:
  struct Done : CommWork {
    void wait() override {}
  };
  static Work no() { throw InternalError("these ranks gather and sum only"); }

  RankTable& table_;
  int rank_;
  int size_;
};

/// Runs `work` on ranks 0 .. size-1 at the same time; returns each rank's error message, empty for
/// none. `timeout`: of a collective.
inline std::vector<std::string> errors_of_ranks(
    int size, const std::function<void(Comm&)>& work,
    std::chrono::milliseconds timeout = std::chrono::seconds(20)) {
  RankTable table(size, timeout);
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      RankComm comm(table, rank, size);
      try {
        work(comm);
      } catch (const std::exception& error) {
        errors[static_cast<std::size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// The same for work that must not fail.
inline void run_ranks(int size, const std::function<void(Comm&)>& work) {
  for (const std::string& error : errors_of_ranks(size, work))
    GIMBAL_CHECK(error.empty(), "", error);
}

}  // namespace gimbal::testing
