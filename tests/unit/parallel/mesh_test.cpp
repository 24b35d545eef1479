#include "gimbal/parallel/mesh.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "balance/check_cases.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

MeshShape shape_of(int pp, int dp_replicate, int dp_shard, int sp, int tp) {
  MeshShape shape;
  shape.pp = pp;
  shape.dp_replicate = dp_replicate;
  shape.dp_shard = dp_shard;
  shape.sp = sp;
  shape.tp = tp;
  return shape;
}

/// The places in rank order by counting: tp runs fastest, pp slowest.
std::vector<MeshCoordinates> all_places(const MeshShape& shape) {
  std::vector<MeshCoordinates> places;
  for (int pp = 0; pp < shape.pp; ++pp)
    for (int r = 0; r < shape.dp_replicate; ++r)
      for (int s = 0; s < shape.dp_shard; ++s)
        for (int q = 0; q < shape.sp; ++q)
          for (int t = 0; t < shape.tp; ++t) places.push_back({pp, r, s, q, t});
  return places;
}

/// A world that makes no connections, only remembers what it was asked for.
class RecordedWorld : public CommWorld {
 public:
  struct PlacedComm : public Comm {
    PlacedComm(int rank, int size) : rank_(rank), size_(size) {}
    using Work = std::unique_ptr<CommWork>;
    using Name = const std::string&;
    using Rows = const std::vector<std::int64_t>&;
    int rank() const override { return rank_; }
    int size() const override { return size_; }
    at::Device device() const override { return at::kCPU; }
    std::string transport() const override { return "none"; }
    Work all_reduce_sum(at::Tensor, Name) override { return {}; }
    Work broadcast(at::Tensor, int, Name) override { return {}; }
    at::Tensor all_gather(const at::Tensor&, Name) override { return {}; }
    Work all_gather_into(at::Tensor, at::Tensor, Name) override { return {}; }
    Work reduce_scatter_sum(at::Tensor, at::Tensor, Name) override { return {}; }
    Work all_to_all(at::Tensor, at::Tensor, Rows, Rows, Name) override { return {}; }
    Work send(at::Tensor, int, Name) override { return {}; }
    Work receive(at::Tensor, int, Name) override { return {}; }
    void barrier(Name) override {}
    int rank_, size_;
  };

  RecordedWorld(int rank, int size) : world_(rank, size) {}
  Comm& world() override { return world_; }
  std::unique_ptr<Comm> make_group(const std::string& name,
                                   const std::vector<int>& ranks) override {
    order.push_back(name);
    groups[name] = ranks;
    const auto place = std::ranges::find(ranks, world_.rank_) - ranks.begin();
    return std::make_unique<PlacedComm>(static_cast<int>(place), static_cast<int>(ranks.size()));
  }
  void set_coordinates(const std::string& text) override { coordinates = text; }
  void report_failure(const std::exception&) noexcept override {}
  std::vector<CommTotal> totals() const override { return counted; }
  std::string shared_memory_trouble() const override { return ""; }

  std::vector<std::string> order;
  std::map<std::string, std::vector<int>> groups;
  std::string coordinates;
  std::vector<CommTotal> counted;

 private:
  PlacedComm world_;
};

TEST(MeshRanks, CountAsNestedLoops) {
  for (const MeshShape& shape : {shape_of(1, 1, 1, 1, 1), shape_of(2, 3, 2, 2, 3),
                                 shape_of(1, 1, 4, 1, 2), shape_of(5, 1, 1, 3, 1)}) {
    const auto places = all_places(shape);
    ASSERT_EQ(static_cast<int>(places.size()), shape.devices());
    for (std::size_t rank = 0; rank < places.size(); ++rank) {
      EXPECT_EQ(coordinates_of(shape, static_cast<int>(rank)), places[rank]);
      EXPECT_EQ(rank_of(shape, places[rank]), static_cast<int>(rank));
    }
  }
}

TEST(MeshRanks, AreChecked) {
  EXPECT_THROW(coordinates_of(shape_of(2, 1, 1, 1, 1), 2), InternalError);
  EXPECT_THROW(coordinates_of(shape_of(2, 1, 1, 1, 1), -1), InternalError);
}

TEST(MeshCoordinatesText, NamesTheAxesAboveOne) {
  const MeshShape shape = shape_of(2, 1, 3, 1, 2);
  EXPECT_EQ(to_string(shape, coordinates_of(shape, 9)), "pp 1, dp_shard 1, tp 1");
  EXPECT_EQ(to_string(shape_of(1, 1, 1, 1, 1), {}), "");
}

TEST(Mesh, GroupsOfRandomShapesDifferInTheirAxesOnly) {
  testing::check_cases(60, [] {
    const auto size = [] { return *testing::between(1, 4); };
    const MeshShape shape = shape_of(size(), size(), size(), size(), size());
    const auto places = all_places(shape);
    const int rank = *testing::between(0, shape.devices());
    RecordedWorld world(rank, shape.devices());
    const Mesh mesh(world, shape, "m");
    const MeshCoordinates at = places[static_cast<std::size_t>(rank)];
    RC_ASSERT(mesh.at() == at);
    RC_ASSERT(mesh.data_rank() == at.dp_replicate * shape.dp_shard + at.dp_shard);
    RC_ASSERT(world.coordinates == to_string(shape, at));

    const auto check = [&](Comm& comm, const std::string& name, const std::set<std::string>& axes) {
      std::vector<int> wanted;
      for (std::size_t i = 0; i < places.size(); ++i) {
        const MeshCoordinates& other = places[i];
        std::set<std::string> differ;
        if (other.pp != at.pp) differ.insert("pp");
        if (other.dp_replicate != at.dp_replicate) differ.insert("dp_replicate");
        if (other.dp_shard != at.dp_shard) differ.insert("dp_shard");
        if (other.sp != at.sp) differ.insert("sp");
        if (other.tp != at.tp) differ.insert("tp");
        if (std::ranges::includes(axes, differ)) wanted.push_back(static_cast<int>(i));
      }
      RC_ASSERT(comm.size() == static_cast<int>(wanted.size()));
      RC_ASSERT(wanted[static_cast<std::size_t>(comm.rank())] == rank);
      if (world.groups.contains(name)) RC_ASSERT(world.groups.at(name) == wanted);
    };
    check(mesh.tp(), "m.tp", {"tp"});
    check(mesh.sp(), "m.sp", {"sp"});
    check(mesh.pack(), "m.pack", {"sp", "tp"});
    check(mesh.shard(), "m.dp_shard", {"dp_shard"});
    check(mesh.replicas(), "m.replicas", {"dp_replicate", "sp"});
    check(mesh.whole_replicas(), "m.whole_replicas", {"dp_replicate", "sp", "tp"});
    check(mesh.pp_forward(), "m.pp_forward", {"pp"});
    check(mesh.pp_backward(), "m.pp_backward", {"pp"});
    RC_ASSERT(mesh.pack().rank() == at.sp * shape.tp + at.tp);
    RC_ASSERT(&mesh.pp_forward() != &mesh.pp_backward());
  });
}

TEST(Mesh, MakesGroupsInTheSameOrderOnAllRanks) {
  const MeshShape shape = shape_of(2, 2, 2, 2, 2);
  std::set<std::vector<std::string>> orders;
  for (int rank = 0; rank < shape.devices(); ++rank) {
    RecordedWorld world(rank, shape.devices());
    const Mesh mesh(world, shape, "m");
    orders.insert(world.order);
  }
  EXPECT_EQ(orders.size(), 1u);
}

TEST(Mesh, TotalsNameTheAxesAndLeaveOtherMeshesOut) {
  const MeshShape shape = shape_of(2, 2, 1, 2, 1);
  RecordedWorld world(0, shape.devices());
  const Mesh mesh(world, shape, "m");
  world.counted = {{"world", "all-reduce", 1, 16, 0.5},    {"m.sp", "all-to-all", 4, 100, 1},
                   {"m.replicas", "all-reduce", 3, 60, 2}, {"m.pp_forward", "send", 5, 50, 0.25},
                   {"m.pp_backward", "send", 6, 500, 0.5}, {"m.pp_backward", "receive", 7, 70, 3},
                   {"other.sp", "all-to-all", 9, 900, 900}};
  const std::vector<CommTotal> totals = mesh.totals();
  const auto text = [](const CommTotal& total) {
    return concat(total.group, " ", total.call, " ", total.calls, " ", total.bytes, " ",
                  total.wait_seconds);
  };
  std::vector<std::string> texts;
  for (const CommTotal& total : totals) texts.push_back(text(total));
  EXPECT_EQ(texts, (std::vector<std::string>{"all all-reduce 1 16 0.5", "sp all-to-all 4 100 1",
                                             "dp_replicate x sp all-reduce 3 60 2",
                                             "pp send 11 550 0.75", "pp receive 7 70 3"}));
}

TEST(Mesh, ShapeMustFitTheWorld) {
  RecordedWorld world(0, 3);
  EXPECT_THROW(Mesh(world, shape_of(2, 1, 1, 1, 1), "m"), InternalError);
}

}  // namespace
}  // namespace gimbal
