#include "gimbal/profile/mesh_links.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>

#include "gimbal/base/json.h"
#include "gimbal/parallel/mesh.h"

namespace gimbal {
namespace {

constexpr std::int64_t kSmallBytes = 4096;
constexpr int kSmallRepeats = 20;
constexpr int kLargeRepeats = 4;

/// Times one call of every rank of the group, the best of several; `call` says whether what arrived
/// is right.
template <typename Call>
Seconds best_call(Comm& comm, int repeats, bool& right, const Call& call) {
  Seconds best = 0;
  for (int i = 0; i < repeats; ++i) {
    comm.barrier("link test");
    const auto begin = std::chrono::steady_clock::now();
    right = call() && right;
    const Seconds seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = i == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

at::Tensor message_of(const Comm& comm, std::int64_t bytes, double value) {
  return at::full({bytes / 4}, value, at::TensorOptions().dtype(at::kFloat).device(comm.device()));
}

/// The first and the last value: reading them waits for the device.
bool holds(const at::Tensor& tensor, double value) {
  return tensor[0].item<double>() == value && tensor[-1].item<double>() == value;
}

MeshLink test_group(Comm& comm, const std::string& axis, std::int64_t large_bytes) {
  MeshLink link{axis, {}, 0, 0, true};
  const double ranks = comm.size();
  const auto time = [&](std::int64_t bytes, int repeats) {
    return best_call(comm, repeats, link.right, [&] {
      at::Tensor tensor = message_of(comm, bytes, comm.rank() + 1.0);
      comm.all_reduce_sum(tensor, "link test")->wait();
      return holds(tensor, ranks * (ranks + 1) / 2);
    });
  };
  link.latency = time(kSmallBytes, kSmallRepeats) / (2 * (ranks - 1));
  link.bytes_per_second =
      2 * (ranks - 1) / ranks * static_cast<double>(large_bytes) / time(large_bytes, kLargeRepeats);
  return link;
}

/// There and back between `first` and the rank after it; the others of the group look on.
MeshLink test_pair(Comm& comm, int first, std::int64_t large_bytes) {
  MeshLink link{"pp", {}, 0, 0, true};
  const auto time = [&](std::int64_t bytes, int repeats) {
    return best_call(comm, repeats, link.right, [&] {
      if (comm.rank() != first && comm.rank() != first + 1) return true;
      at::Tensor there = message_of(comm, bytes, 3);
      at::Tensor back = message_of(comm, bytes, 0);
      if (comm.rank() == first) {
        comm.send(there, first + 1, "link test")->wait();
        comm.receive(back, first + 1, "link test")->wait();
      } else {
        comm.receive(back, first, "link test")->wait();
        comm.send(back, first, "link test")->wait();
      }
      return holds(back, 3);
    });
  };
  link.latency = time(kSmallBytes, kSmallRepeats) / 2;
  link.bytes_per_second = 2 * static_cast<double>(large_bytes) / time(large_bytes, kLargeRepeats);
  return link;
}

/// What this rank reports: as the first of a group.
class LinkTests {
 public:
  LinkTests(CommWorld& world, std::int64_t large_bytes)
      : world_(world), large_bytes_(large_bytes) {}

  void test(Comm& comm, const std::string& axis) {
    if (comm.size() == 1) return;
    report(comm, test_group(comm, axis, large_bytes_), 0, comm.size());
  }

  void test_stages(Comm& comm) {
    for (int first = 0; first + 1 < comm.size(); ++first)
      report(comm, test_pair(comm, first, large_bytes_), first, 2);
  }

  std::vector<MeshLink> share() {
    std::vector<MeshLink> all;
    for (const std::string& text : all_gather_bytes(world_.world(), found_.dump(), "links")) {
      for (const Json& json : Json::parse(text)) {
        all.push_back({json["axis"].get<std::string>(), json["ranks"].get<std::vector<int>>(),
                       json["latency"].get<double>(), json["bytes_per_second"].get<double>(),
                       json["right"].get<bool>()});
      }
    }
    std::ranges::stable_sort(all, {}, [&](const MeshLink& link) {
      return std::ranges::find(axes_, link.axis) - axes_.begin();
    });
    return all;
  }

 private:
  void report(Comm& comm, const MeshLink& link, int first, int count) {
    if (std::ranges::find(axes_, link.axis) == axes_.end()) axes_.push_back(link.axis);
    const at::Tensor own = at::full({2}, world_.world().rank(), at::kLong);
    own[1].fill_(link.right ? 0 : 1);
    const at::Tensor members = comm.all_gather(own.to(comm.device()), "members").to(at::kCPU);
    if (comm.rank() != first) return;
    Json ranks = Json::array();
    bool right = true;
    for (int i = first; i < first + count; ++i) {
      ranks.push_back(members[i][0].item<std::int64_t>());
      right = right && members[i][1].item<std::int64_t>() == 0;
    }
    found_.push_back({{"axis", link.axis},
                      {"ranks", ranks},
                      {"latency", link.latency},
                      {"bytes_per_second", link.bytes_per_second},
                      {"right", right}});
  }

  CommWorld& world_;
  std::int64_t large_bytes_;
  std::vector<std::string> axes_;  // in the order of the tests, on all ranks alike
  Json found_ = Json::array();
};

}  // namespace

std::vector<MeshLink> measure_mesh_links(CommWorld& world, const MeshShape& shape,
                                         std::int64_t large_bytes) {
  if (world.world().size() == 1) return {};
  const Mesh mesh(world, shape, "link test");
  LinkTests tests(world, large_bytes);
  tests.test(world.world(), "world");
  tests.test(mesh.tp(), "tp");
  tests.test(mesh.sp(), "sp");
  tests.test(mesh.shard(), "dp_shard");
  tests.test(mesh.replicas(), "replicas");
  tests.test_stages(mesh.pp_forward());
  return tests.share();
}

std::string mesh_place(const MeshShape& shape, int rank) {
  return to_string(shape, coordinates_of(shape, rank));
}

}  // namespace gimbal
