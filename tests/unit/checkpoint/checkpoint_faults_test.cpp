// Saving when the disk of one rank is slow, or full in the background.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/checkpoint/checkpoint_writer.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/checkpoint/sharded/agree.h"
#include "unit/base/names_in.h"
#include "unit/base/temp_folder.h"
#include "unit/checkpoint/disk_faults.h"
#include "unit/checkpoint/mesh_shards.h"
#include "unit/checkpoint/small_run.h"
#include "unit/checkpoint/thread_ranks.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::errors_of_ranks;
using testing::filled_rank;
using testing::mesh_parameters;
using testing::MeshRank;
using testing::names_in;
using testing::run_ranks;
using testing::state_at;
using testing::TempFolder;
using testing::WithDiskFault;

const MeshShape kTwoRanks{1, 1, 2, 1, 1};

CheckpointRules rules_with_timeout(std::chrono::milliseconds timeout) {
  CheckpointRules rules;
  rules.keep_last = 9;
  rules.timeout = timeout;
  return rules;
}

MeshRank rank_of(const Comm& world) {
  return filled_rank(mesh_parameters(), kTwoRanks, world.rank(), 3);
}

void wait_until_failed(const CheckpointWriter& writer) {
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!writer.failed()) {
    GIMBAL_CHECK(std::chrono::steady_clock::now() < deadline, "no failure is noticed");
    std::this_thread::sleep_for(1ms);
  }
}

// The collectives of these ranks take at most two seconds, and rank 0 waits 0.4 s without a sign.
TEST(CheckpointFaults, ASlowDiskIsNoLostRank) {
  const TempFolder folder;
  for (const std::string slow : {"rank-00000.safetensors", "rank-00001.safetensors"}) {
    const WithDiskFault fault({slow, 2500ms});
    const auto errors = errors_of_ranks(
        2,
        [&](Comm& world) {
          CheckpointWriter writer(folder.path(), world, kTwoRanks, rules_with_timeout(400ms));
          const MeshRank rank = rank_of(world);
          writer.save(state_at(1), rank.shards, rank.optimizer);
          writer.finish();
          GIMBAL_CHECK(!writer.failed(), "nothing has failed");
        },
        2s);
    EXPECT_EQ(errors, (std::vector<std::string>{"", ""}));
    EXPECT_EQ(names_in(folder / "checkpoints/step-00000001"),
              (std::set<std::string>{"index.json", "rank-00000.safetensors",
                                     "rank-00001.safetensors", "state.json"}));
  }
}

TEST(CheckpointFaults, TheRankThatFailedKnowsItAndItsReasonIsTheCause) {
  const TempFolder folder;
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoRanks, rules_with_timeout(5s));
    const MeshRank rank = rank_of(world);
    writer.save(state_at(1), rank.shards, rank.optimizer);
    writer.finish();
  });
  const WithDiskFault fault({"rank-00001.safetensors", 0ms, ENOSPC});
  const auto errors = errors_of_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoRanks, rules_with_timeout(100ms));
    const MeshRank rank = rank_of(world);
    writer.save(state_at(2), rank.shards, rank.optimizer);
    // Rank 0 too: it has waited in vain.
    wait_until_failed(writer);
    GIMBAL_CHECK(writer.saved_step() == std::nullopt, "nothing is saved");
    writer.finish();
  });
  const std::string path =
      (folder / "checkpoints/step-00000002.partial/rank-00001.safetensors").string();
  EXPECT_EQ(errors[1], path + ": cannot write to the disk: No space left on device");
  EXPECT_EQ(errors[0], "rank 1: " + errors[1]);
  EXPECT_EQ(find_latest_checkpoint(folder.path()), folder / "checkpoints/step-00000001");
  EXPECT_FALSE(fs::exists(folder / "checkpoints/step-00000002.partial"));
}

TEST(CheckpointFaults, SlowWorkOutlastsACollectiveAndAnyErrorReachesAll) {
  const auto errors = errors_of_ranks(
      2,
      [](Comm& world) {
        run_slow_together(world, "slow work", [&] {
          if (world.rank() == 0) return;
          std::this_thread::sleep_for(2s);
          throw std::runtime_error("no UserError");
        });
      },
      1s);
  EXPECT_EQ(errors, (std::vector<std::string>{"rank 1: no UserError", "no UserError"}));
}

// Its content may be good when the disk is well again: no rank goes on from an older one.
TEST(CheckpointFaults, AFileThatOneRankCannotReadEndsTheStartOnAll) {
  const TempFolder folder;
  for (const std::uint64_t step : {1, 2}) {
    const testing::SmallRun run = testing::small_run(1);
    save_checkpoint(folder.path(), state_at(step), run.shards, run.optimizer);
  }
  const fs::path bad = folder / "other/checkpoints/step-00000002";
  fs::create_directories(bad.parent_path());
  fs::copy(folder / "checkpoints/step-00000002", bad);
  const fs::path file = bad / "rank-00000.safetensors";
  fs::remove(file);
  fs::create_symlink(file.filename(), file);  // leads to itself
  const auto errors = errors_of_ranks(2, [&](Comm& world) {
    find_latest_checkpoint(world.rank() == 0 ? folder.path() : folder / "other", world);
  });
  EXPECT_NE(errors[1].find(file.string() + ": cannot"), std::string::npos) << errors[1];
  EXPECT_NE(errors[1].find("Too many levels of symbolic links. The checkpoint " + bad.string() +
                           " may be good"),
            std::string::npos)
      << errors[1];
  EXPECT_EQ(errors[0], "rank 1: " + errors[1]);
}

}  // namespace
}  // namespace gimbal
