#include "gimbal/profile/mesh_links.h"

#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

using std::chrono::milliseconds;

constexpr int kRanks = 9;
constexpr milliseconds kMessageTime{1};  // that an all-gather takes for each other rank
constexpr milliseconds kReduceTime{1};

class WorkAfter : public CommWork {
 public:
  WorkAfter(milliseconds time, std::function<void()> work) : time_(time), work_(std::move(work)) {}
  void wait() override {
    std::this_thread::sleep_for(time_);
    work_();
  }

 private:
  milliseconds time_;
  std::function<void()> work_;
};

/// Rank 0 of a group whose other ranks have what it has, plus their rank where it is timed.
class SlowComm : public Comm {
 public:
  using Work = std::unique_ptr<CommWork>;
  explicit SlowComm(bool breaks) : breaks_(breaks) {}
  int rank() const override { return 0; }
  int size() const override { return kRanks; }
  at::Device device() const override { return at::kCPU; }
  std::string transport() const override { return "slow"; }
  Work all_gather_into(at::Tensor out, at::Tensor in, const std::string&) override {
    return std::make_unique<WorkAfter>((kRanks - 1) * kMessageTime, [this, out, in] {
      for (int rank = 0; rank < kRanks; ++rank) {
        at::Tensor part = out.narrow(0, rank * in.numel(), in.numel());
        part.copy_(in);
        part.add_(rank);
        if (breaks_ && rank == 1) part[-1].fill_(-1);
      }
    });
  }
  Work all_reduce_sum(at::Tensor tensor, const std::string&) override {
    return std::make_unique<WorkAfter>(
        kReduceTime, [tensor] { tensor.mul_(kRanks).add_(kRanks * (kRanks - 1) / 2); });
  }
  at::Tensor all_gather(const at::Tensor& tensor, const std::string&) override {
    return tensor.unsqueeze(0).repeat({kRanks, 1});
  }
  void barrier(const std::string&) override {}

  Work broadcast(at::Tensor, int, const std::string&) override { return not_here(); }
  Work reduce_scatter_sum(at::Tensor, at::Tensor, const std::string&) override {
    return not_here();
  }
  Work all_to_all(at::Tensor, at::Tensor, const std::vector<std::int64_t>&,
                  const std::vector<std::int64_t>&, const std::string&) override {
    return not_here();
  }
  Work send(at::Tensor, int, const std::string&) override { return not_here(); }
  Work receive(at::Tensor, int, const std::string&) override { return not_here(); }

 private:
  static Work not_here() { throw InternalError("groups gather and reduce only"); }

  bool breaks_;
};

class SlowWorld : public CommWorld {
 public:
  explicit SlowWorld(bool breaks) : breaks_(breaks), world_(breaks) {}
  Comm& world() override { return world_; }
  std::unique_ptr<Comm> make_group(const std::string&, const std::vector<int>& ranks) override {
    if (ranks.size() == 1) return make_single_comm();
    return std::make_unique<SlowComm>(breaks_);
  }
  std::vector<CommTotal> totals() const override { return {}; }
  std::string shared_memory_trouble() const override { return ""; }
  void set_coordinates(const std::string&) override {}
  void report_failure(const std::exception&) noexcept override {}

 private:
  bool breaks_;
  SlowComm world_;
};

TEST(MeshLinks, LatencyIsThatOfOneMessage) {
  SlowWorld world(false);
  const std::int64_t bytes = 18000;
  const std::vector<MeshLink> links =
      measure_mesh_links(world, MeshShape{.dp_replicate = kRanks}, bytes);
  ASSERT_FALSE(links.empty());
  for (const MeshLink& link : links) {
    EXPECT_TRUE(link.right);
    EXPECT_EQ(link.transport, "slow");
    EXPECT_GE(link.latency, 1e-3);
    // Only stalls of all 20 calls, to eight times their time, could take one message as far.
    EXPECT_LT(link.latency, 8e-3) << "as much as all messages";
    // A rank sends 16 / 9 of the bytes in an all-reduce of nine.
    EXPECT_GT(link.bytes_per_second, 0);
    EXPECT_LE(link.bytes_per_second, 32000 / 1e-3);
  }
  EXPECT_EQ(links.front().axis, "world");
  EXPECT_EQ(links.back().axis, "replicas");
}

TEST(MeshLinks, APartThatArrivesWrongIsSeen) {
  SlowWorld world(true);
  for (const MeshLink& link : measure_mesh_links(world, MeshShape{.dp_replicate = kRanks}, 12000))
    EXPECT_FALSE(link.right) << link.axis;
}

TEST(MeshLinks, OneProcessHasNone) {
  class Alone : public SlowWorld {
   public:
    Alone() : SlowWorld(false), comm_(make_single_comm()) {}
    Comm& world() override { return *comm_; }

   private:
    std::unique_ptr<Comm> comm_;
  };
  Alone alone;
  EXPECT_TRUE(measure_mesh_links(alone, MeshShape{}).empty());
}

}  // namespace
}  // namespace gimbal
