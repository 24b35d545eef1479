// How this process was started: rank, world size, rendezvous (torchrun, srun, mpirun, or a single
// process).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace gimbal {

struct LaunchInfo {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;
  std::string master_address;
  int master_port = 0;
  std::string launcher;           // "single", "torchrun", "slurm", "openmpi"
  std::string socket_interfaces;  // GLOO_SOCKET_IFNAME: names joined by commas; empty: chosen
  bool shared_memory = true;      // between the processes of a machine; GIMBAL_TRANSPORT=tcp: not
  bool agent_store = false;       // torchrun's agent already serves a store at the address
  int attempt = 0;                // torchrun restarts before this start
};

/// Reads one variable; nullopt when it is not set.
using GetVariable = std::function<std::optional<std::string>(const std::string&)>;

/// Reads the variables through `get` (std::getenv in production; a map in tests). Looks for
/// torchrun's set first, then Open MPI's, then Slurm's (mpirun and torchrun may themselves run
/// under srun). An allocation without a running step (a batch script, an salloc shell) counts as a
/// single process. Throws UserError for an incomplete or contradictory set, naming the variable.
LaunchInfo read_launch_info(const GetVariable& get);
LaunchInfo read_launch_info();

/// The first host of a Slurm node list: "gpu[03-07,9],cpu1" gives "gpu03".
std::string first_slurm_host(const std::string& node_list);

/// Tasks on each node from Slurm's short form: "2(x3),1" gives 2 2 2 1. Throws UserError naming
/// `variable` when the text has another form.
std::vector<int> slurm_tasks_per_node(const std::string& text, const std::string& variable);

}  // namespace gimbal
