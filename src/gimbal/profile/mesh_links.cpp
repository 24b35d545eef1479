#include "gimbal/profile/mesh_links.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "gimbal/base/json.h"
#include "gimbal/parallel/mesh.h"

namespace gimbal {
namespace {

constexpr std::int64_t kSmallBytes = 4096;
constexpr int kSmallRepeats = 20;
constexpr int kLargeRepeats = 4;

/// One kind of call and what surrounds it.
struct TimedCall {
  std::function<void()> prepare;
  std::function<void()> call;
  std::function<bool()> is_right;  // what has arrived
};

/// Of one call of every rank of the group, the best of several.
Seconds best_call(Comm& comm, int repeats, bool& right, const TimedCall& timed) {
  Seconds best = 0;
  for (int i = 0; i < repeats; ++i) {
    timed.prepare();
    comm.barrier("link test");
    const auto begin = std::chrono::steady_clock::now();
    timed.call();
    const Seconds seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best = i == 0 ? seconds : std::min(best, seconds);
    right = timed.is_right() && right;
  }
  return best;
}

at::Tensor message_of(const Comm& comm, std::int64_t bytes, double value) {
  return at::full({bytes / 4}, value, at::TensorOptions().dtype(at::kFloat).device(comm.device()));
}

/// Waits for the device.
void wait_for_values(const at::Tensor& tensor) { tensor[-1].item<float>(); }

/// The first and the last value.
bool holds(const at::Tensor& tensor, double value) {
  return tensor[0].item<double>() == value && tensor[-1].item<double>() == value;
}

/// Every rank's message to all others.
Seconds time_gather(Comm& comm, std::int64_t bytes, bool& right) {
  const at::Tensor own = message_of(comm, bytes, comm.rank() + 1.0);
  const at::Tensor all = message_of(comm, bytes * comm.size(), 0);
  return best_call(comm, kSmallRepeats, right,
                   {[&] { all.zero_(); },
                    [&] {
                      comm.all_gather_into(all, own, "link test")->wait();
                      wait_for_values(all);
                    },
                    [&] {
                      bool arrived = true;
                      for (int rank = 0; rank < comm.size(); ++rank) {
                        const at::Tensor part = all.narrow(0, rank * own.numel(), own.numel());
                        arrived = arrived && holds(part, rank + 1.0);
                      }
                      return arrived;
                    }});
}

Seconds time_reduce(Comm& comm, std::int64_t bytes, bool& right) {
  const at::Tensor tensor = message_of(comm, bytes, 0);
  const double ranks = comm.size();
  return best_call(comm, kLargeRepeats, right,
                   {[&] { tensor.fill_(comm.rank() + 1.0); },
                    [&] {
                      comm.all_reduce_sum(tensor, "link test")->wait();
                      wait_for_values(tensor);
                    },
                    [&] { return holds(tensor, ranks * (ranks + 1) / 2); }});
}

MeshLink test_group(Comm& comm, const std::string& axis, std::int64_t large_bytes) {
  MeshLink link{axis, {}, 0, 0, true, comm.transport()};
  const double ranks = comm.size();
  link.latency = time_gather(comm, kSmallBytes, link.right) / (ranks - 1);
  link.bytes_per_second = 2 * (ranks - 1) / ranks * static_cast<double>(large_bytes) /
                          time_reduce(comm, large_bytes, link.right);
  return link;
}

/// There and back between `first` and the rank after it; the others of the group look on.
Seconds time_round_trip(Comm& comm, int first, std::int64_t bytes, int repeats, bool& right) {
  const bool starts = comm.rank() == first;
  const bool takes_part = starts || comm.rank() == first + 1;
  const at::Tensor there = message_of(comm, bytes, 3);
  const at::Tensor back = message_of(comm, bytes, 0);
  return best_call(comm, repeats, right,
                   {[&] { back.zero_(); },
                    [&] {
                      if (!takes_part) return;
                      if (starts) {
                        comm.send(there, first + 1, "link test")->wait();
                        comm.receive(back, first + 1, "link test")->wait();
                      } else {
                        comm.receive(back, first, "link test")->wait();
                        comm.send(back, first, "link test")->wait();
                      }
                      wait_for_values(back);
                    },
                    [&] { return !takes_part || holds(back, 3); }});
}

MeshLink test_pair(Comm& comm, int first, std::int64_t large_bytes) {
  MeshLink link{"pp", {}, 0, 0, true, comm.transport()};
  link.latency = time_round_trip(comm, first, kSmallBytes, kSmallRepeats, link.right) / 2;
  link.bytes_per_second = 2 * static_cast<double>(large_bytes) /
                          time_round_trip(comm, first, large_bytes, kLargeRepeats, link.right);
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
                       json["right"].get<bool>(), json["transport"].get<std::string>()});
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
                      {"right", right},
                      {"transport", link.transport}});
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
