#include "gimbal/parallel/launch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

using Variables = std::map<std::string, std::string>;

LaunchInfo read(const Variables& variables) {
  return read_launch_info([&](const std::string& name) -> std::optional<std::string> {
    const auto it = variables.find(name);
    if (it == variables.end()) return std::nullopt;
    return it->second;
  });
}

/// The message of the UserError that reading throws.
std::string error_of(const Variables& variables) {
  try {
    read(variables);
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

Variables torchrun() {
  return {{"RANK", "3"},
          {"WORLD_SIZE", "4"},
          {"LOCAL_RANK", "1"},
          {"LOCAL_WORLD_SIZE", "2"},
          {"MASTER_ADDR", "node0"},
          {"MASTER_PORT", "1234"},
          {"TORCHELASTIC_USE_AGENT_STORE", "True"},
          {"TORCHELASTIC_RESTART_COUNT", "2"}};
}

Variables slurm() {
  return {{"SLURM_STEP_ID", "0"},      {"SLURM_PROCID", "3"},
          {"SLURM_NTASKS", "5"},       {"SLURM_LOCALID", "1"},
          {"SLURM_NODEID", "1"},       {"SLURM_STEP_TASKS_PER_NODE", "2(x2),1"},
          {"SLURM_JOB_ID", "4711"},    {"SLURM_STEP_NODELIST", "gpu[03-05]"},
          {"SLURM_JOB_NODELIST", "x"}, {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.1"}};
}

Variables openmpi() {
  return {{"OMPI_COMM_WORLD_RANK", "1"},
          {"OMPI_COMM_WORLD_SIZE", "2"},
          {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
          {"PMIX_NAMESPACE", "job@1"}};
}

Variables with(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(Launch, NothingSetIsOneProcess) {
  const LaunchInfo info = read({});
  EXPECT_EQ(info.launcher, "single");
  EXPECT_EQ(info.rank, 0);
  EXPECT_EQ(info.world_size, 1);
  EXPECT_FALSE(info.agent_store);
}

TEST(Launch, ReadsTorchrun) {
  const LaunchInfo info = read(with(torchrun(), "GLOO_SOCKET_IFNAME", "eth0,eth1"));
  EXPECT_EQ(info.launcher, "torchrun");
  EXPECT_EQ(info.rank, 3);
  EXPECT_EQ(info.world_size, 4);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.local_world_size, 2);
  EXPECT_EQ(info.master_address, "node0");
  EXPECT_EQ(info.master_port, 1234);
  EXPECT_TRUE(info.agent_store);
  EXPECT_EQ(info.attempt, 2);
  EXPECT_EQ(info.socket_interfaces, "eth0,eth1");
}

TEST(Launch, TransportBetweenTheProcessesOfAMachine) {
  EXPECT_TRUE(read(torchrun()).shared_memory);
  EXPECT_TRUE(read(with(torchrun(), "GIMBAL_TRANSPORT", "auto")).shared_memory);
  EXPECT_FALSE(read(with(torchrun(), "GIMBAL_TRANSPORT", "tcp")).shared_memory);
  EXPECT_THAT([] { read(with(torchrun(), "GIMBAL_TRANSPORT", "smoke")); },
              testing::ThrowsMessage<UserError>(
                  testing::HasSubstr("GIMBAL_TRANSPORT='smoke': write auto")));
}

TEST(Launch, ReadsSlurm) {
  const LaunchInfo info = read(slurm());
  EXPECT_EQ(info.launcher, "slurm");
  EXPECT_EQ(info.rank, 3);
  EXPECT_EQ(info.world_size, 5);
  EXPECT_EQ(info.local_rank, 1);
  EXPECT_EQ(info.local_world_size, 2);
  EXPECT_EQ(info.master_address, "gpu03");
  EXPECT_GE(info.master_port, 15000);
  EXPECT_LT(info.master_port, 30000);
  EXPECT_EQ(info.master_port, read(with(slurm(), "SLURM_PROCID", "2")).master_port);
  EXPECT_NE(info.master_port, read(with(slurm(), "SLURM_JOB_ID", "4712")).master_port);
}

TEST(Launch, SlurmFallsBackToOtherHostNames) {
  EXPECT_EQ(read(with(slurm(), "MASTER_ADDR", "boss")).master_address, "boss");
  EXPECT_EQ(read(without(slurm(), "SLURM_STEP_NODELIST")).master_address, "x");
  EXPECT_EQ(
      read(without(without(slurm(), "SLURM_STEP_NODELIST"), "SLURM_JOB_NODELIST")).master_address,
      "10.0.0.1");
}

TEST(Launch, SlurmWithoutStepIsOneProcess) {
  EXPECT_EQ(read(without(slurm(), "SLURM_STEP_ID")).launcher, "single");
}

TEST(Launch, ReadsOpenMpi) {
  const LaunchInfo info = read(openmpi());
  EXPECT_EQ(info.launcher, "openmpi");
  EXPECT_EQ(info.rank, 1);
  EXPECT_EQ(info.world_size, 2);
  EXPECT_EQ(info.master_address, "127.0.0.1");
  EXPECT_NE(info.master_port, read(with(openmpi(), "PMIX_NAMESPACE", "job@2")).master_port);
  EXPECT_EQ(read(with(openmpi(), "MASTER_PORT", "99")).master_port, 99);
}

TEST(Launch, InnermostLauncherWins) {
  Variables all = slurm();
  for (const auto& variable : openmpi()) all.insert(variable);
  EXPECT_EQ(read(all).launcher, "openmpi");
  for (const auto& variable : torchrun()) all.insert(variable);
  EXPECT_EQ(read(all).launcher, "torchrun");
}

TEST(Launch, IncompleteSetsNameTheVariable) {
  for (const std::string name :
       {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    EXPECT_THAT(error_of(without(torchrun(), name)), testing::HasSubstr(name + " is not set"));
    EXPECT_THAT(error_of(with(torchrun(), name, "")), testing::HasSubstr(name + " is not set"));
  }
  for (const std::string name :
       {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_JOB_ID"}) {
    EXPECT_THAT(error_of(without(slurm(), name)), testing::HasSubstr(name + " is not set"));
  }
  EXPECT_THAT(error_of(without(slurm(), "SLURM_STEP_TASKS_PER_NODE")),
              testing::HasSubstr("SLURM_TASKS_PER_NODE is not set"));
  for (const auto& [name, value] : openmpi()) {
    if (name == "PMIX_NAMESPACE") continue;
    EXPECT_THAT(error_of(without(openmpi(), name)), testing::HasSubstr(name + " is not set"));
  }
}

TEST(Launch, ContradictionsNameTheVariable) {
  using testing::HasSubstr;
  EXPECT_THAT(error_of(with(torchrun(), "RANK", "4")), HasSubstr("RANK=4 must lie in 0 .. "));
  EXPECT_THAT(error_of(with(torchrun(), "RANK", "two")), HasSubstr("RANK='two' is not a whole"));
  EXPECT_THAT(error_of(with(torchrun(), "WORLD_SIZE", "0")), HasSubstr("WORLD_SIZE=0"));
  EXPECT_THAT(error_of(with(torchrun(), "LOCAL_RANK", "2")), HasSubstr("LOCAL_RANK=2"));
  EXPECT_THAT(error_of(with(torchrun(), "LOCAL_WORLD_SIZE", "5")), HasSubstr("LOCAL_WORLD_SIZE=5"));
  EXPECT_THAT(error_of(with(torchrun(), "MASTER_PORT", "70000")), HasSubstr("MASTER_PORT=70000"));
  EXPECT_THAT(error_of(with(slurm(), "SLURM_NODEID", "3")), HasSubstr("SLURM_NODEID=3"));
  EXPECT_THAT(error_of(with(openmpi(), "OMPI_COMM_WORLD_LOCAL_SIZE", "1")),
              HasSubstr("OMPI_COMM_WORLD_LOCAL_RANK=1"));
  // Two machines, and nobody says where rank 0 is.
  Variables two_machines = with(openmpi(), "OMPI_COMM_WORLD_LOCAL_SIZE", "1");
  two_machines["OMPI_COMM_WORLD_LOCAL_RANK"] = "0";
  EXPECT_THAT(error_of(two_machines), HasSubstr("MASTER_ADDR is not set and cannot be derived"));
}

TEST(Launch, FirstSlurmHost) {
  EXPECT_EQ(first_slurm_host("gpu1"), "gpu1");
  EXPECT_EQ(first_slurm_host("gpu1,gpu2"), "gpu1");
  EXPECT_EQ(first_slurm_host("gpu[03-07,9],cpu1"), "gpu03");
  EXPECT_EQ(first_slurm_host("gpu[9,11]"), "gpu9");
  EXPECT_EQ(first_slurm_host("gpu[2]-ib,cpu1"), "gpu2-ib");
  EXPECT_EQ(first_slurm_host("rack[1-2]node[07-09],x"), "rack1node07");
  EXPECT_EQ(first_slurm_host(""), "");
}

TEST(Launch, SlurmTasksPerNode) {
  EXPECT_EQ(slurm_tasks_per_node("2(x3),1", "V"), (std::vector<int>{2, 2, 2, 1}));
  EXPECT_EQ(slurm_tasks_per_node("8", "V"), (std::vector<int>{8}));
  for (const std::string bad : {"", "a", "2(x", "2(x3", "2(xq)", "2,", "-1", "2(x0)"}) {
    EXPECT_THROW(slurm_tasks_per_node(bad, "V"), UserError) << bad;
  }
}

}  // namespace
}  // namespace gimbal
