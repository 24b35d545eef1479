// Checkpoints of real processes: written on one mesh and read on another, and killed at any moment.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"
#include "gimbal/checkpoint/checkpoint_writer.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "unit/base/temp_folder.h"
#include "unit/checkpoint/disk_faults.h"
#include "unit/checkpoint/mesh_shards.h"
#include "unit/checkpoint/small_run.h"
#include "workers.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using testing::empty_rank;
using testing::equal_ranks;
using testing::filled_rank;
using testing::mesh_parameters;
using testing::MeshRank;
using testing::state_at;
using testing::TempFolder;
using testing_workers::run_workers;
using testing_workers::Variables;
using testing_workers::Worker;
using testing_workers::WorkerResult;

constexpr int kKilled = 128 + SIGKILL;

std::unique_ptr<CommWorld> make_test_world(
    std::chrono::seconds timeout = std::chrono::seconds(30)) {
  return make_comm_world(read_launch_info(), at::kCPU, timeout);
}

std::string variable(const char* name) { return std::getenv(name); }

const Worker kMoveMesh("checkpoint_moves_between_meshes", [] {
  const auto processes = make_test_world();
  Comm& world = processes->world();
  const MeshShape meshes[] = {{2, 1, 2, 1, 1}, {1, 1, 1, 2, 2}, {1, 1, 4, 1, 1}, {2, 1, 1, 1, 2}};
  std::uint64_t step = 0;
  for (const MeshShape& from : meshes) {
    CheckpointWriter writer(variable("RUN_FOLDER"), world, from, {});
    const MeshRank saved =
        filled_rank(mesh_parameters(), from, world.rank(), static_cast<double>(++step));
    writer.save(state_at(step), saved.shards, saved.optimizer);
    writer.finish();
    const auto path = find_latest_checkpoint(variable("RUN_FOLDER"), world);
    for (const MeshShape& to : meshes) {
      const MeshRank loaded = empty_rank(mesh_parameters(), to, world.rank());
      load_checkpoint(*path, loaded.shards, loaded.optimizer, world, VerifyFirst::kNo);
      GIMBAL_CHECK(equal_ranks(loaded, filled_rank(mesh_parameters(), to, world.rank(),
                                                   static_cast<double>(step))),
                   "", to_string(from), " -> ", to_string(to));
    }
  }
  std::cout << "moved";
});

TEST(CheckpointProcesses, MoveBetweenMeshes) {
  const TempFolder folder;
  for (const WorkerResult& result : run_workers("checkpoint_moves_between_meshes", 4,
                                                {{"RUN_FOLDER", folder.path().string()}})) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, "moved");
  }
}

const MeshShape kKilledMesh{1, 1, 2, 1, 1};

// Goes on from the last checkpoint and saves every step until it is killed.
const Worker kSaveUntilKilled("checkpoint_save_until_killed", [] {
  const auto processes = make_test_world();
  Comm& world = processes->world();
  const fs::path run = variable("RUN_FOLDER");
  CheckpointRules rules;
  rules.background = variable("BACKGROUND") == "1";
  CheckpointWriter writer(run, world, kKilledMesh, rules);
  std::uint64_t step = 0;
  if (const auto latest = find_latest_checkpoint(run, world)) {
    const MeshRank rank = empty_rank(mesh_parameters(), kKilledMesh, world.rank());
    step = load_checkpoint(*latest, rank.shards, rank.optimizer, world, VerifyFirst::kNo).step;
  }
  const std::string killed = variable("KILLED_RANK");
  std::thread killer;
  if (killed == "all" || std::stoi(killed) == world.rank()) {
    killer = std::thread([] {
      std::this_thread::sleep_for(std::chrono::microseconds(std::stoll(variable("KILL_AFTER_US"))));
      kill(getpid(), SIGKILL);
    });
    killer.detach();
  }
  while (true) {
    ++step;
    const MeshRank rank =
        filled_rank(mesh_parameters(), kKilledMesh, world.rank(), static_cast<double>(step));
    writer.save(state_at(step), rank.shards, rank.optimizer);
  }
});

TEST(CheckpointProcesses, KilledAtAnyMomentTheyLeaveCompleteCheckpointsOnly) {
  const TempFolder folder;
  const CounterRng rng(20261122);
  constexpr std::uint64_t kRounds = 12, kLongestUs = 300'000;
  std::uint64_t last = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const Variables variables{{"RUN_FOLDER", folder.path().string()},
                              {"BACKGROUND", round % 4 == 3 ? "0" : "1"},
                              {"KILLED_RANK", round % 3 == 2 ? "all" : std::to_string(round % 3)},
                              {"KILL_AFTER_US", std::to_string(rng.below(round, kLongestUs))}};
    int num_killed = 0;
    for (const WorkerResult& result : run_workers("checkpoint_save_until_killed", 2, variables)) {
      num_killed += result.exit_code == kKilled ? 1 : 0;
      EXPECT_NE(result.exit_code, -1) << "hangs";
    }
    EXPECT_GE(num_killed, 1);
    const auto latest = find_latest_checkpoint(folder.path());
    if (!latest) continue;
    for (const auto& entry : fs::directory_iterator(folder / "checkpoints")) {
      if (entry.path().extension() != ".partial") verify_checkpoint(entry.path());
    }
    const MeshRank loaded = empty_rank(mesh_parameters(), {}, 0);
    const std::uint64_t step = load_checkpoint(*latest, loaded.shards, loaded.optimizer).step;
    EXPECT_TRUE(
        equal_ranks(loaded, filled_rank(mesh_parameters(), {}, 0, static_cast<double>(step))));
    EXPECT_GE(step, last);
    last = step;
  }
  EXPECT_GT(last, kRounds);  // the rounds got somewhere, one going on from the other
}

const Worker kSlowDisk("checkpoint_slow_disk", [] {
  const auto processes = make_test_world(std::chrono::seconds(5));
  Comm& world = processes->world();
  const testing::WithDiskFault fault(
      {world.rank() == 1 ? "rank-00001.safetensors" : "", std::chrono::seconds(7)});
  CheckpointRules rules;
  rules.background = variable("BACKGROUND") == "1";
  CheckpointWriter writer(variable("RUN_FOLDER"), world, kKilledMesh, rules);
  const MeshRank rank = filled_rank(mesh_parameters(), kKilledMesh, world.rank(), 1);
  writer.save(state_at(1), rank.shards, rank.optimizer);
  writer.finish();
  world.barrier("after the save");
  std::cout << "saved";
});

TEST(CheckpointProcesses, ASlowDiskOutlastsTheTimeoutOfCollectives) {
  const TempFolder folder;
  for (const char* background : {"0", "1"}) {
    const Variables variables{{"RUN_FOLDER", folder.path().string()}, {"BACKGROUND", background}};
    for (const WorkerResult& result : run_workers("checkpoint_slow_disk", 2, variables))
      EXPECT_EQ(result.output, "saved");
    verify_checkpoint(folder / "checkpoints/step-00000001");
  }
}

// Rank 1 may not write files of more than a few bytes from the second save on.
const Worker kFullDisk("checkpoint_full_disk_of_one_rank", [] {
  const auto processes = make_test_world();
  Comm& world = processes->world();
  CheckpointWriter writer(variable("RUN_FOLDER"), world, kKilledMesh, {});
  const MeshRank rank = filled_rank(mesh_parameters(), kKilledMesh, world.rank(), 1);
  writer.save(state_at(1), rank.shards, rank.optimizer);
  writer.finish();
  rlimit before{};
  GIMBAL_CHECK(::getrlimit(RLIMIT_FSIZE, &before) == 0, "no limit of files");
  if (world.rank() == 1) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{256, before.rlim_max};
    GIMBAL_CHECK(::setrlimit(RLIMIT_FSIZE, &small) == 0, "no limit of files");
  }
  writer.save(state_at(2), rank.shards, rank.optimizer);
  std::string message = "no error";
  try {
    writer.finish();
  } catch (const UserError& error) {
    message = error.what();
  }
  GIMBAL_CHECK(::setrlimit(RLIMIT_FSIZE, &before) == 0, "no limit of files");
  world.barrier("after the failure");  // which was everybody's, so that all can go on
  std::cout << message;
});

TEST(CheckpointProcesses, AFullDiskOfOneRankIsNamedByAll) {
  const TempFolder folder;
  const auto results =
      run_workers("checkpoint_full_disk_of_one_rank", 2, {{"RUN_FOLDER", folder.path().string()}});
  const std::string path =
      (folder / "checkpoints/step-00000002.partial/rank-00001.safetensors").string();
  EXPECT_EQ(results[1].output, path + ": cannot write: File too large");
  EXPECT_EQ(results[0].output, "rank 1: " + results[1].output);
  EXPECT_EQ(find_latest_checkpoint(folder.path()), folder / "checkpoints/step-00000001");
  EXPECT_FALSE(fs::exists(folder / "checkpoints/step-00000002.partial"));
}

}  // namespace
}  // namespace gimbal
