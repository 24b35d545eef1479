#include <unistd.h>

#include <algorithm>
#include <set>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/comm/comm_c10d.h"
#include "gimbal/parallel/comm/comm_state.h"
#include "gimbal/parallel/comm/comm_terminate.h"

namespace gimbal {
namespace {

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

std::string join_ranks(const std::vector<int>& ranks, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < std::min(ranks.size(), most); ++i)
    text += concat(i == 0 ? "" : ", ", ranks[i]);
  return ranks.size() > most ? text + concat(", .. ", ranks.back()) : text;
}

std::shared_ptr<CommGroup> make_comm_group(const std::shared_ptr<CommState>& state,
                                           const std::string& name, const std::vector<int>& ranks) {
  const auto place = std::ranges::find(ranks, state->launch.rank);
  GIMBAL_CHECK(place != ranks.end(), "rank ", state->launch.rank, " is not in group ", name,
               " of ranks ", join_ranks(ranks, ranks.size()));
  auto group = std::make_shared<CommGroup>();
  group->state = state;
  group->name = name;
  group->ranks = ranks;
  group->rank = static_cast<int>(place - ranks.begin());
  group->counters = std::make_shared<GroupCounters>();
  group->counters->group = name;
  state->counters.push_back(group->counters);
  return group;
}

/// How the ranks of a group reach each other.
struct Connections {
  c10::intrusive_ptr<c10d::Backend> backend;
  std::shared_ptr<LocalGroup> local;  // null: the backend moves everything
};

/// What `find` finds; throws CommError when the other ranks of the group are not there.
template <typename Find>
auto find_others(const CommGroup& group, const Find& find) {
  const CommState& state = *group.state;
  try {
    return find();
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& e) {
    throw CommError(concat(state.describe_rank(), " cannot connect to the other processes within ",
                           std::chrono::duration<double>(state.timeout).count(), " s (",
                           group.describe(),
                           "). Several network interfaces? Set GLOO_SOCKET_IFNAME (or "
                           "NCCL_SOCKET_IFNAME). Reason: ",
                           reason_of(e)));
  }
}

Connections connect(const CommGroup& group) {
  const CommState& state = *group.state;
  const BackendSetup setup{
      c10::make_intrusive<c10d::PrefixStore>(group.store_prefix(), state.store), group.rank,
      group.size(), state.timeout};
  return find_others(group, [&]() -> Connections {
    if (state.device.is_cuda()) return {make_nccl_backend(setup, state.device), nullptr};
    return {make_gloo_backend(setup, state.transports), make_local_group(group)};
  });
}

std::unique_ptr<Comm> connect_group(std::shared_ptr<CommGroup> group) {
  if (group->size() == 1) return make_single_comm(group->state->device);
  Connections connections = connect(*group);
  auto comm = make_c10d_comm(std::move(group), std::move(connections.backend),
                             std::move(connections.local));
  // Nobody goes on, and may even leave, while others still connect to it.
  comm->barrier("start");
  return comm;
}

std::unique_ptr<Health> make_health(const CommState& state) {
  HealthSetup setup;
  setup.rank = state.launch.rank;
  setup.size = state.launch.world_size;
  setup.host = state.host;
  setup.store_address = concat(state.launch.master_address, ":", state.launch.master_port);
  setup.rank_zero_serves = !state.launch.agent_store;
  setup.activity = [record = state.record] { return record->activity(); };
  setup.on_failure = [waiting = state.waiting] { waiting->interrupt(); };
  return std::make_unique<Health>(std::move(setup), connect_to_store(state.launch, state.timeout));
}

std::shared_ptr<CommState> make_comm_state(const LaunchInfo& launch, const at::Device& device,
                                           std::chrono::milliseconds timeout) {
  auto state = std::make_shared<CommState>();
  state->launch = launch;
  state->device = device;
  state->timeout = timeout;
  state->host = host_name();
  if (launch.world_size == 1) return state;
  if (device.is_cuda()) check_nccl(launch, device);
  // Before the processes meet: who ends now takes no store away from the others.
  if (!device.is_cuda()) state->transports = make_gloo_transports(launch);
  state->store = meet(launch, timeout);
  state->health = make_health(*state);
  report_terminate(state);
  return state;
}

std::unique_ptr<Comm> connect_world(const std::shared_ptr<CommState>& state) {
  std::vector<int> ranks(static_cast<std::size_t>(state->launch.world_size));
  for (std::size_t i = 0; i < ranks.size(); ++i) ranks[i] = static_cast<int>(i);
  auto group = make_comm_group(state, "world", ranks);
  if (group->size() > 1 && !state->device.is_cuda())
    state->machine = find_others(*group, [&] { return find_local_machine(*state); });
  return connect_group(std::move(group));
}

class LaunchedWorld : public CommWorld {
 public:
  explicit LaunchedWorld(std::shared_ptr<CommState> state)
      : state_(std::move(state)), world_(connect_world(state_)) {}

  Comm& world() override { return *world_; }

  std::unique_ptr<Comm> make_group(const std::string& name,
                                   const std::vector<int>& ranks) override {
    GIMBAL_CHECK(std::set<int>(ranks.begin(), ranks.end()).size() == ranks.size(), "group ", name,
                 " has a rank twice: ", join_ranks(ranks, ranks.size()));
    for (const int rank : ranks) {
      GIMBAL_CHECK(rank >= 0 && rank < state_->launch.world_size, "rank ", rank, " of group ",
                   name);
    }
    GIMBAL_CHECK(name != "world" && names_.insert(name).second, "group ", name, " is made twice");
    return connect_group(make_comm_group(state_, name, ranks));
  }

  std::vector<CommTotal> totals() const override {
    std::vector<CommTotal> totals;
    for (const auto& counters : state_->counters) counters->add_totals(totals);
    return totals;
  }

  std::string shared_memory_trouble() const override { return state_->machine.trouble; }

  void set_coordinates(const std::string& text) override {
    state_->coordinates = text;
    if (state_->health) state_->health->set_coordinates(text);
  }

  void report_failure(const std::exception& error) noexcept override {
    // A failed collective has reported itself.
    if (!state_->health || dynamic_cast<const CommError*>(&error) != nullptr) return;
    state_->health->report_failure(error.what());
  }

 private:
  std::shared_ptr<CommState> state_;
  std::unique_ptr<Comm> world_;
  std::set<std::string> names_;
};

}  // namespace

std::string CommState::describe_rank() const {
  return concat("rank ", launch.rank, " of ", launch.world_size, " (",
                coordinates.empty() ? "" : coordinates + "; ", "host ", host, ")");
}

std::string CommGroup::store_prefix() const {
  return concat("group/", name, "/", join_ranks(ranks, 1 << 20));
}

std::string CommGroup::describe() const {
  return concat("group ", name, " of ranks ", join_ranks(ranks, 16));
}

std::unique_ptr<CommWorld> make_comm_world(const LaunchInfo& launch, const at::Device& device,
                                           std::chrono::milliseconds timeout) {
  return std::make_unique<LaunchedWorld>(make_comm_state(launch, device, timeout));
}

std::unique_ptr<Comm> make_world_comm(const LaunchInfo& launch, const at::Device& device,
                                      std::chrono::milliseconds timeout) {
  return connect_world(make_comm_state(launch, device, timeout));
}

}  // namespace gimbal
