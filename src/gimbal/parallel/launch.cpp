#include "gimbal/parallel/launch.h"

#include <cstdlib>

#include "gimbal/base/error.h"
#include "gimbal/parallel/launch_variables.h"

namespace gimbal {
namespace {

constexpr int kDefaultPort = 29500;
constexpr const char* kLoopback = "127.0.0.1";

void check_ranks(const LaunchInfo& info, const char* rank_variable, const char* size_variable,
                 const char* local_rank_variable, const char* local_size_variable) {
  GIMBAL_USER_CHECK(info.world_size >= 1, "launch: ", size_variable, "=", info.world_size,
                    " must be at least 1");
  GIMBAL_USER_CHECK(info.rank >= 0 && info.rank < info.world_size, "launch: ", rank_variable, "=",
                    info.rank, " must lie in 0 .. ", size_variable, " - 1 = ", info.world_size - 1);
  GIMBAL_USER_CHECK(info.local_world_size >= 1 && info.local_world_size <= info.world_size,
                    "launch: ", local_size_variable, "=", info.local_world_size,
                    " must lie in 1 .. ", size_variable, " = ", info.world_size);
  GIMBAL_USER_CHECK(info.local_rank >= 0 && info.local_rank < info.local_world_size,
                    "launch: ", local_rank_variable, "=", info.local_rank, " must lie in 0 .. ",
                    local_size_variable, " - 1 = ", info.local_world_size - 1);
}

/// MASTER_ADDR and MASTER_PORT where they are set; this machine for a job on one machine.
void read_master(const LaunchVariables& variables, const std::string& derived_address,
                 int derived_port, LaunchInfo& info) {
  const bool one_machine = info.local_world_size == info.world_size;
  info.master_address = variables.text("MASTER_ADDR").value_or("");
  if (info.master_address.empty()) info.master_address = one_machine ? kLoopback : derived_address;
  info.master_port = variables.number("MASTER_PORT").value_or(derived_port);
  GIMBAL_USER_CHECK(!info.master_address.empty(),
                    "launch: MASTER_ADDR is not set and cannot be derived for ", info.world_size,
                    " processes on several machines; set it to the host of rank 0 (with mpirun: -x "
                    "MASTER_ADDR=host)");
  GIMBAL_USER_CHECK(info.master_port > 0 && info.master_port < 65536,
                    "launch: MASTER_PORT=", info.master_port, " is no port (1 .. 65535)");
}

LaunchInfo read_torchrun(const LaunchVariables& variables) {
  LaunchInfo info;
  info.launcher = "torchrun";
  info.rank = variables.required_number("RANK", "WORLD_SIZE");
  info.world_size = variables.required_number("WORLD_SIZE", "RANK");
  info.local_rank = variables.required_number("LOCAL_RANK", "RANK");
  info.local_world_size = variables.required_number("LOCAL_WORLD_SIZE", "RANK");
  check_ranks(info, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE");
  if (info.world_size > 1) {
    info.master_address = variables.required_text("MASTER_ADDR", "RANK");
    variables.required_number("MASTER_PORT", "RANK");
    read_master(variables, "", 0, info);
  }
  info.agent_store = variables.text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  info.attempt = variables.number("TORCHELASTIC_RESTART_COUNT").value_or(0);
  return info;
}

LaunchInfo read_openmpi(const LaunchVariables& variables) {
  LaunchInfo info;
  info.launcher = "openmpi";
  info.rank = variables.required_number("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE");
  info.world_size = variables.required_number("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK");
  info.local_rank = variables.required_number("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_RANK");
  info.local_world_size =
      variables.required_number("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_RANK");
  check_ranks(info, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
              "OMPI_COMM_WORLD_LOCAL_SIZE");
  if (info.world_size > 1) {
    const std::string host = first_slurm_host(variables.text("SLURM_JOB_NODELIST").value_or(""));
    const auto job = variables.text("PMIX_NAMESPACE");
    read_master(variables, host, job ? port_of_job(*job) : kDefaultPort, info);
  }
  return info;
}

LaunchInfo read_slurm(const LaunchVariables& variables) {
  LaunchInfo info;
  info.launcher = "slurm";
  info.rank = variables.required_number("SLURM_PROCID", "SLURM_STEP_ID");
  info.world_size = variables.required_number("SLURM_NTASKS", "SLURM_PROCID");
  info.local_rank = variables.required_number("SLURM_LOCALID", "SLURM_PROCID");
  const char* tasks_variable = variables.text("SLURM_STEP_TASKS_PER_NODE")
                                   ? "SLURM_STEP_TASKS_PER_NODE"
                                   : "SLURM_TASKS_PER_NODE";
  const std::vector<int> tasks =
      slurm_tasks_per_node(variables.required_text(tasks_variable, "SLURM_PROCID"), tasks_variable);
  const int node = variables.required_number("SLURM_NODEID", "SLURM_PROCID");
  GIMBAL_USER_CHECK(node >= 0 && node < static_cast<int>(tasks.size()),
                    "launch: SLURM_NODEID=", node, " is no node of ", tasks_variable, " (",
                    tasks.size(), " nodes)");
  info.local_world_size = tasks[static_cast<std::size_t>(node)];
  check_ranks(info, "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", tasks_variable);
  if (info.world_size > 1) {
    // Rank 0 lives on the step's first node; srun itself may have been started somewhere else.
    std::string nodes = variables.text("SLURM_STEP_NODELIST").value_or("");
    if (nodes.empty()) nodes = variables.text("SLURM_JOB_NODELIST").value_or("");
    std::string host = first_slurm_host(nodes);
    if (host.empty()) host = variables.text("SLURM_LAUNCH_NODE_IPADDR").value_or("");
    const std::string job = variables.required_text("SLURM_JOB_ID", "SLURM_PROCID") + "." +
                            variables.text("SLURM_STEP_ID").value_or("");
    read_master(variables, host, port_of_job(job), info);
  }
  return info;
}

}  // namespace

LaunchInfo read_launch_info(const GetVariable& get) {
  const LaunchVariables variables(get);
  LaunchInfo info;
  if (variables.text("RANK") || variables.text("WORLD_SIZE")) {
    info = read_torchrun(variables);
  } else if (variables.text("OMPI_COMM_WORLD_RANK") || variables.text("OMPI_COMM_WORLD_SIZE")) {
    info = read_openmpi(variables);
  } else if (variables.text("SLURM_STEP_ID")) {
    info = read_slurm(variables);
  } else {
    info.launcher = "single";
  }
  info.socket_interfaces = variables.text("GLOO_SOCKET_IFNAME").value_or("");
  const std::string transport = variables.text("GIMBAL_TRANSPORT").value_or("auto");
  GIMBAL_USER_CHECK(transport == "auto" || transport == "tcp", "launch: GIMBAL_TRANSPORT='",
                    transport, "': write auto (shared memory between the processes of a machine) ",
                    "or tcp");
  info.shared_memory = transport == "auto";
  return info;
}

LaunchInfo read_launch_info() {
  return read_launch_info([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  });
}

}  // namespace gimbal
