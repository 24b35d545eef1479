// Point-to-point messages between threads of one process, for tests of what sends and receives.
#pragma once

#include <ATen/core/Tensor.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"

namespace gimbal::testing {

/// A group of threads. A send is done when its receive has been posted, not before: what relies on
/// buffers hangs, and throws after some seconds.
class ThreadGroup {
 public:
  explicit ThreadGroup(int size) : size_(size) {}

  std::unique_ptr<Comm> comm(int rank);
  /// Most sends of a rank that were not done at the same time.
  int most_sends() const { return most_sends_; }
  std::vector<std::string> names;      // of all sends
  std::set<std::pair<int, int>> ways;  // (from, to) of all sends

 private:
  friend class ThreadComm;
  friend class ThreadWork;

  struct Side {
    at::Tensor tensor;
    bool done = false;
  };
  using Queue = std::deque<std::shared_ptr<Side>>;

  std::shared_ptr<Side> post(at::Tensor tensor, int from, int to, bool sends) {
    const std::lock_guard lock(mutex_);
    GIMBAL_CHECK(tensor.is_contiguous() && tensor.numel() > 0, "a tensor that cannot be sent");
    auto side = std::make_shared<Side>(Side{std::move(tensor), false});
    Queue& own = (sends ? sends_ : receives_)[{from, to}];
    Queue& other = (sends ? receives_ : sends_)[{from, to}];
    if (other.empty()) {
      own.push_back(side);
    } else {
      const auto& first = other.front();
      Side& source = sends ? *side : *first;
      Side& target = sends ? *first : *side;
      GIMBAL_CHECK_EQ(source.tensor.sizes(), target.tensor.sizes());
      GIMBAL_CHECK_EQ(source.tensor.scalar_type(), target.tensor.scalar_type());
      target.tensor.copy_(source.tensor);
      source.done = target.done = true;
      other.pop_front();
    }
    int under_way = 0;
    for (const auto& [ends, queue] : sends_) {
      if (ends.first == from) under_way += static_cast<int>(queue.size());
    }
    most_sends_ = std::max(most_sends_, under_way);
    changed_.notify_all();
    return side;
  }

  void wait(const Side& side) {
    std::unique_lock lock(mutex_);
    const bool done =
        changed_.wait_for(lock, std::chrono::seconds(5), [&side] { return side.done; });
    GIMBAL_CHECK(done, "a message never came through");
  }

  int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, Queue> sends_, receives_;  // by (from, to): not yet matched
  int most_sends_ = 0;
};

class ThreadWork : public CommWork {
 public:
  ThreadWork(ThreadGroup& group, std::shared_ptr<ThreadGroup::Side> side)
      : group_(group), side_(std::move(side)) {}
  void wait() override { group_.wait(*side_); }

 private:
  ThreadGroup& group_;
  std::shared_ptr<ThreadGroup::Side> side_;
};

class ThreadComm : public Comm {
 public:
  ThreadComm(ThreadGroup& group, int rank) : group_(group), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return group_.size_; }
  at::Device device() const override { return at::kCPU; }
  std::string transport() const override { return "none"; }
  std::unique_ptr<CommWork> send(at::Tensor tensor, int to, const std::string& name) override {
    {
      const std::lock_guard lock(group_.mutex_);
      group_.names.push_back(name);
      group_.ways.emplace(rank_, to);
    }
    return std::make_unique<ThreadWork>(group_, group_.post(std::move(tensor), rank_, to, true));
  }
  std::unique_ptr<CommWork> receive(at::Tensor tensor, int from, const std::string&) override {
    return std::make_unique<ThreadWork>(group_, group_.post(std::move(tensor), from, rank_, false));
  }

  using Work = std::unique_ptr<CommWork>;
  Work all_reduce_sum(at::Tensor, const std::string&) override { return no<Work>(); }
  Work broadcast(at::Tensor, int, const std::string&) override { return no<Work>(); }
  at::Tensor all_gather(const at::Tensor&, const std::string&) override { return no<at::Tensor>(); }
  Work all_gather_into(at::Tensor, at::Tensor, const std::string&) override { return no<Work>(); }
  Work reduce_scatter_sum(at::Tensor, at::Tensor, const std::string&) override {
    return no<Work>();
  }
  Work all_to_all(at::Tensor, at::Tensor, const std::vector<std::int64_t>&,
                  const std::vector<std::int64_t>&, const std::string&) override {
    return no<Work>();
  }
  void barrier(const std::string&) override { no<int>(); }

 private:
  template <typename T>
  static T no() {
    throw InternalError("threads send and receive only");
  }

  ThreadGroup& group_;
  int rank_;
};

inline std::unique_ptr<Comm> ThreadGroup::comm(int rank) {
  return std::make_unique<ThreadComm>(*this, rank);
}

}  // namespace gimbal::testing
