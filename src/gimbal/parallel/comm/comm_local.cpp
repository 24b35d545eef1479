#include "gimbal/parallel/comm/comm_local.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm/comm_state.h"
#include "gimbal/parallel/shm/local_group.h"

namespace gimbal {
namespace {

std::string get_text(c10d::Store& store, const std::string& key) {
  const std::vector<std::uint8_t> bytes = store.get(key);
  return {bytes.begin(), bytes.end()};
}

void set_text(c10d::Store& store, const std::string& key, const std::string& text) {
  store.set(key, std::vector<std::uint8_t>(text.begin(), text.end()));
}

const char* const kUnknownKernel = "unknown";
const char* const kUnwantedKernel = "unwanted";

struct LocalProcess {
  std::string kernel =
      kUnknownKernel;      // that it runs on; or kUnwantedKernel: it shares no memory with others
  std::string name_space;  // in which process numbers mean the same
  pid_t process = 0;

  bool is_on_machine_of(const LocalProcess& other) const {
    return kernel != kUnknownKernel && kernel != kUnwantedKernel && kernel == other.kernel;
  }
  bool can_find(const LocalProcess& other) const {
    return is_on_machine_of(other) && name_space == other.name_space;
  }
};

/// This one, which wants to share memory.
LocalProcess own_process() {
  LocalProcess own{kUnknownKernel, kUnknownKernel, getpid()};
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  char processes[64] = {};
  const ssize_t length = readlink("/proc/self/ns/pid", processes, sizeof(processes) - 1);
  if (boot.empty() || length <= 0) return own;
  own.kernel = boot;
  own.name_space.assign(processes, static_cast<std::size_t>(length));
  return own;
}

/// Of all ranks; through rank 0, so that nobody asks for each rank by itself.
std::vector<LocalProcess> exchange_processes(const CommState& state) {
  c10d::PrefixStore store("local", state.store);
  const auto key = [](int rank) { return concat("process/", rank); };
  const LocalProcess own = state.launch.shared_memory
                               ? own_process()
                               : LocalProcess{kUnwantedKernel, kUnwantedKernel, getpid()};
  set_text(store, key(state.launch.rank),
           concat(own.kernel, " ", own.name_space, " ", own.process));
  if (state.launch.rank == 0) {
    std::string all;
    for (int rank = 0; rank < state.launch.world_size; ++rank)
      all += get_text(store, key(rank)) + "\n";
    set_text(store, "processes", all);
  }
  std::istringstream lines(get_text(store, "processes"));
  std::vector<LocalProcess> result(static_cast<std::size_t>(state.launch.world_size));
  for (LocalProcess& each : result) lines >> each.kernel >> each.name_space >> each.process;
  GIMBAL_CHECK(!lines.fail(), "processes of ", result.size(), " ranks");
  return result;
}

std::uint64_t random_token() {
  std::random_device source;
  return (std::uint64_t{source()} << 32) | source();
}

struct SharedOrNot {
  std::optional<SharedMemory> memory;
  std::string reason;  // why not
};

/// The first of `ranks` makes it, the others open it, and all have it or nobody has. This rank is
/// number `member`.
SharedOrNot share_memory(c10d::Store& store, const std::vector<int>& ranks, std::size_t member,
                         std::size_t num_bytes) {
  SharedOrNot result;
  std::string trouble;
  const auto say = [&](const std::string& what) {
    trouble = concat("rank ", ranks[member], ": ", what);
  };
  const auto attempt = [&](const auto& make) {
    try {
      result.memory.emplace(make());
    } catch (const std::exception& e) {
      say(e.what());
    }
  };
  // Behind what is shared: shows that another process has opened this memory and no other.
  const std::size_t token_begin = (num_bytes + 63) / 64 * 64;
  const std::size_t all_bytes = token_begin + sizeof(std::uint64_t);
  const auto token = [&]() -> std::uint64_t& {
    return *reinterpret_cast<std::uint64_t*>(result.memory->data() + token_begin);
  };
  const auto opened_key = [](std::size_t of) { return concat("opened/", of); };
  if (member == 0) {
    attempt([&] { return SharedMemory::create(all_bytes); });
    std::string where = "none";
    if (result.memory) {
      token() = random_token();
      where = concat(getpid(), " ", result.memory->file(), " ", token());
    }
    set_text(store, "memory", where);
    for (std::size_t other = 1; other < ranks.size(); ++other) {
      const std::string text = get_text(store, opened_key(other));
      if (trouble.empty() && text != "ok") trouble = text;
    }
    set_text(store, "verdict", trouble.empty() ? "ok" : trouble);
  } else {
    std::istringstream where(get_text(store, "memory"));
    pid_t process = 0;
    int file = -1;
    std::uint64_t wanted = 0;
    if (where >> process >> file >> wanted) {
      attempt([&] { return SharedMemory::open(process, file, all_bytes); });
      if (result.memory && token() != wanted) {
        say("process numbers lead to another process (a cloned machine, or /proc of another "
            "container)");
      }
    } else {
      trouble = "nothing to open";  // the first one knows why
    }
    set_text(store, opened_key(member), trouble.empty() ? "ok" : trouble);
  }
  result.reason = get_text(store, "verdict");
  if (result.reason == "ok") {
    result.reason.clear();
    result.memory->close_file();
  } else {
    result.memory.reset();
  }
  return result;
}

/// Why this rank does not find ranks that its machine has, in the same words on all that do not
/// find each other; empty where it does.
std::string hidden_ranks(const LaunchInfo& launch, const std::vector<LocalProcess>& all) {
  const LocalProcess& own = all[static_cast<std::size_t>(launch.rank)];
  if (own.kernel == kUnknownKernel && launch.local_world_size > 1) {
    return "/proc/sys/kernel/random/boot_id and /proc/self/ns/pid cannot be read";
  }
  std::string names;
  bool all_found = true;
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!own.is_on_machine_of(all[rank])) continue;
    names += concat(names.empty() ? "rank " : ", rank ", rank);
    all_found = all_found && own.can_find(all[rank]);
  }
  return all_found ? "" : "in different process namespaces (containers) of a machine: " + names;
}

}  // namespace

LocalMachine find_local_machine(const CommState& state) {
  const std::vector<LocalProcess> all = exchange_processes(state);
  const int own_rank = state.launch.rank;
  const LocalProcess& own_place = all[static_cast<std::size_t>(own_rank)];
  LocalMachine result;
  std::vector<pid_t> processes;
  for (int rank = 0; rank < state.launch.world_size; ++rank) {
    const LocalProcess& process = all[static_cast<std::size_t>(rank)];
    if (rank != own_rank && !own_place.can_find(process)) continue;
    result.ranks.push_back(rank);
    processes.push_back(process.process);
  }
  result.trouble = hidden_ranks(state.launch, all);
  if (result.ranks.size() == 1) return result;
  const auto own = std::ranges::find(result.ranks, own_rank) - result.ranks.begin();
  c10d::PrefixStore store(concat("local/machine/", result.ranks.front()), state.store);
  SharedOrNot bells = share_memory(store, result.ranks, static_cast<std::size_t>(own),
                                   LocalHub::num_bytes(processes.size()));
  if (!bells.reason.empty()) result.trouble = bells.reason;
  if (bells.memory) {
    result.hub = std::make_shared<LocalHub>(std::move(*bells.memory), processes,
                                            static_cast<std::size_t>(own));
  }
  return result;
}

std::shared_ptr<LocalGroup> make_local_group(const CommGroup& group) {
  LocalMachine& machine = group.state->machine;
  if (!machine.hub) return nullptr;
  std::vector<std::size_t> members;
  std::vector<std::string> names;
  for (const int rank : group.ranks) {
    const auto place = std::ranges::find(machine.ranks, rank);
    if (place == machine.ranks.end()) return nullptr;
    members.push_back(static_cast<std::size_t>(place - machine.ranks.begin()));
    names.push_back(concat("rank ", rank));
  }
  c10d::PrefixStore store("local/" + group.store_prefix(), group.state->store);
  SharedOrNot rings = share_memory(store, group.ranks, static_cast<std::size_t>(group.rank),
                                   LocalGroup::num_bytes(members.size()));
  if (!rings.memory) {
    if (machine.trouble.empty()) machine.trouble = concat(group.describe(), ": ", rings.reason);
    return nullptr;
  }
  return std::make_shared<LocalGroup>(machine.hub, std::move(*rings.memory), std::move(members),
                                      group.rank, std::move(names));
}

}  // namespace gimbal
