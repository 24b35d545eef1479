#include "gimbal/checkpoint/checkpoint_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/checkpoint/sharded/publish.h"
#include "unit/base/names_in.h"
#include "unit/base/temp_folder.h"
#include "unit/checkpoint/mesh_shards.h"
#include "unit/checkpoint/small_run.h"
#include "unit/checkpoint/thread_ranks.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using testing::empty_rank;
using testing::equal_ranks;
using testing::errors_of_ranks;
using testing::filled_rank;
using testing::mesh_parameters;
using testing::MeshRank;
using testing::names_in;
using testing::run_ranks;
using testing::state_at;
using testing::TempFolder;

const MeshShape kTwoShards{1, 1, 2, 1, 1};

CheckpointRules rules_with(std::size_t keep_last, std::uint64_t keep_every = 0) {
  CheckpointRules rules;
  rules.keep_last = keep_last;
  rules.keep_every = keep_every;
  rules.timeout = 10s;
  return rules;
}

MeshRank load(const fs::path& run, const MeshShape& mesh, Comm& world) {
  MeshRank rank = empty_rank(mesh_parameters(), mesh, world.rank());
  load_checkpoint(*find_latest_checkpoint(run, world), rank.shards, rank.optimizer, world);
  return rank;
}

TEST(CheckpointWriter, WritesTheStateAtTheCall) {
  const TempFolder folder;
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoShards, rules_with(9));
    const MeshRank rank = filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3);
    writer.save(state_at(1), rank.shards, rank.optimizer);
    for (const FlatShard& shard : rank.shards) shard.values.fill_(-1);
    for (const OptimizerTensors& kind : rank.optimizer) {
      for (const at::Tensor& flat : kind.per_shard)
        if (flat.defined()) flat.fill_(-1);
    }
    writer.finish();
    GIMBAL_CHECK(equal_ranks(load(folder.path(), kTwoShards, world),
                             filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3)),
                 "later values were written");
  });
}

TEST(CheckpointWriter, KnowsTheLastStepThatIsComplete) {
  const TempFolder folder;
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoShards, rules_with(9));
    const MeshRank rank = filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3);
    GIMBAL_CHECK(!writer.saved_step(), "nothing is saved yet");
    writer.finish();  // nothing to wait for
    writer.save(state_at(1), rank.shards, rank.optimizer);
    writer.save(state_at(2), rank.shards, rank.optimizer);  // after the first
    GIMBAL_CHECK(fs::exists(folder / "checkpoints/step-00000001/state.json"), "not waited for");
    GIMBAL_CHECK(writer.saved_step() == 1U || (world.rank() == 0 && writer.saved_step() == 2U),
                 "the second may be complete already, which rank 0 alone knows");
    writer.finish();
    GIMBAL_CHECK(writer.saved_step() == 2U, "the second is complete");
  });
}

TEST(CheckpointWriter, NothingIsVisibleBeforeWhatTheCallerPutsOnTheDisk) {
  const TempFolder folder;
  const MeshRank whole = filled_rank(mesh_parameters(), MeshShape{}, 0, 3);
  CheckpointRules rules = rules_with(9);
  int calls = 0;
  for (const bool alone : {false, true}) {
    const std::uint64_t step = alone ? 2 : 1;
    const fs::path path = checkpoint_path(folder.path(), step);
    const auto save = [&] {
      return errors_of_ranks(1,
                             [&](Comm& world) {
                               CheckpointWriter writer(folder.path(), world, MeshShape{}, rules);
                               if (alone)
                                 return writer.save_alone(state_at(step), whole.shards,
                                                          whole.optimizer);
                               writer.save(state_at(step), whole.shards, whole.optimizer);
                               writer.finish();
                             })
          .front();
    };
    rules.before_publishing = [] { throw UserError("the log is on a full disk"); };
    std::uint64_t visible = 0;
    rules.after_publishing = [&](std::uint64_t saved) { visible = fs::exists(path) ? saved : 99; };
    EXPECT_EQ(save(), "the log is on a full disk");
    EXPECT_FALSE(fs::exists(path));
    EXPECT_EQ(visible, 0U);
    rules.before_publishing = [&] { calls += fs::exists(path) ? 100 : 1; };
    EXPECT_EQ(save(), "");
    EXPECT_TRUE(fs::exists(path));
    EXPECT_EQ(visible, step);
  }
  EXPECT_EQ(calls, 2);
}

TEST(CheckpointWriter, FilesAreAsDescribed) {
  const TempFolder folder;
  for (const bool background : {false, true}) {
    run_ranks(2, [&](Comm& world) {
      CheckpointRules rules = rules_with(9);
      rules.background = background;
      CheckpointWriter writer(folder.path(), world, kTwoShards, rules);
      const MeshRank rank = filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3);
      writer.save(state_at(1), rank.shards, rank.optimizer);
      if (background) writer.finish();
    });
    EXPECT_EQ(names_in(folder / "checkpoints/step-00000001"),
              (std::set<std::string>{"index.json", "rank-00000.safetensors",
                                     "rank-00001.safetensors", "state.json"}));
  }
}

TEST(CheckpointWriter, KeepsTheLastAndEveryMultiple) {
  const TempFolder folder;
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoShards, rules_with(2, 4));
    const MeshRank rank = filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3);
    for (std::uint64_t step = 1; step <= 10; ++step)
      writer.save(state_at(step), rank.shards, rank.optimizer);
    writer.finish();
  });
  EXPECT_EQ(
      names_in(folder / "checkpoints"),
      (std::set<std::string>{"step-00000004", "step-00000008", "step-00000009", "step-00000010"}));
}

TEST(CheckpointWriter, RemovesLeftoversOfKilledRunsAtTheStart) {
  const TempFolder folder;
  make_folders(folder / "checkpoints/step-00000007.partial/x");
  make_folders(folder / "checkpoints/step-00000003");
  make_folders(folder / "checkpoints/step-00000003.partial.replaced");
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoShards, rules_with(9));
    GIMBAL_CHECK(!fs::exists(folder / "checkpoints/step-00000007.partial"), "still there");
  });
  EXPECT_EQ(names_in(folder / "checkpoints"), std::set<std::string>{"step-00000003"});
}

TEST(CheckpointWriter, AnErrorOfOneRankIsThrownOnAllAndTheNextSaveWorks) {
  const TempFolder folder;
  const MeshRank ranks[] = {filled_rank(mesh_parameters(), kTwoShards, 0, 3),
                            filled_rank(mesh_parameters(), kTwoShards, 1, 3)};
  for (const bool background : {true, false}) {
    const auto errors = errors_of_ranks(2, [&](Comm& world) {
      CheckpointRules rules = rules_with(9);
      rules.background = background;
      // Rank 1 looks for the run on another disk, where there is no folder.
      const fs::path run = world.rank() == 0 ? folder.path() : folder / "absent";
      CheckpointWriter writer(run, world, kTwoShards, rules);
      const MeshRank& rank = ranks[world.rank()];
      writer.save(state_at(1), rank.shards, rank.optimizer);
      writer.finish();
    });
    const std::string path =
        (folder / "absent/checkpoints/step-00000001.partial/rank-00001.safetensors").string();
    EXPECT_EQ(errors[1], path + ": cannot create: No such file or directory");
    EXPECT_EQ(errors[0], "rank 1: " + errors[1]);
    EXPECT_TRUE(names_in(folder / "checkpoints").empty());
  }
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoShards, rules_with(9));
    writer.save(state_at(1), ranks[world.rank()].shards, ranks[world.rank()].optimizer);
    writer.finish();
  });
  EXPECT_EQ(names_in(folder / "checkpoints"), std::set<std::string>{"step-00000001"});
}

TEST(CheckpointWriter, AFileThatDoesNotComeEndsTheSaveAtTheTimeLimit) {
  const TempFolder folder;
  make_folders(folder / "other/checkpoints/step-00000001.partial");
  const auto errors = errors_of_ranks(2, [&](Comm& world) {
    CheckpointRules rules = rules_with(9);
    rules.timeout = 100ms;
    const fs::path run = world.rank() == 0 ? folder / "run" : folder / "other";
    CheckpointWriter writer(run, world, kTwoShards, rules);
    const MeshRank rank = filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3);
    writer.save(state_at(1), rank.shards, rank.optimizer);
    writer.finish();
  });
  EXPECT_EQ(errors[0], (folder / "run/checkpoints/step-00000001.partial").string() +
                           ": no file of rank 1, and no sign that it is being written for 0.1 s. "
                           "The run folder has to be on a disk "
                           "that all ranks see.");
  EXPECT_EQ(errors[1], "rank 0: " + errors[0]);
  EXPECT_TRUE(names_in(folder / "run/checkpoints").empty());
}

TEST(CheckpointWriter, AnEndWithoutTheOthersLeavesNoCheckpoint) {
  const TempFolder folder;
  make_folders(folder / "other/checkpoints/step-00000001.partial");
  const auto start = std::chrono::steady_clock::now();
  run_ranks(2, [&](Comm& world) {
    const fs::path run = world.rank() == 0 ? folder / "run" : folder / "other";
    CheckpointWriter writer(run, world, kTwoShards, rules_with(9));
    const MeshRank rank = filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3);
    writer.save(state_at(1), rank.shards, rank.optimizer);
  });
  EXPECT_LT(std::chrono::steady_clock::now() - start, 8s);  // its time limit is 10 s
  EXPECT_TRUE(names_in(folder / "run/checkpoints").empty());
}

TEST(CheckpointWriter, AnEndInTheMiddleOfASaveLetsItBecomeComplete) {
  const TempFolder folder;
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, kTwoShards, rules_with(9));
    const MeshRank rank = filled_rank(mesh_parameters(), kTwoShards, world.rank(), 3);
    writer.save(state_at(1), rank.shards, rank.optimizer);
  });
  EXPECT_EQ(find_latest_checkpoint(folder.path()), folder / "checkpoints/step-00000001");
}

TEST(CheckpointWriter, OneRankSavesAloneWhatItHasWhole) {
  const TempFolder folder;
  const MeshShape replicas{1, 2, 1, 1, 1};
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, replicas, rules_with(9));
    const MeshRank rank = filled_rank(mesh_parameters(), replicas, world.rank(), 3);
    GIMBAL_CHECK(writer.can_save_alone(rank.shards), "replicas have everything");
    writer.save(state_at(1), rank.shards, rank.optimizer);
    if (world.rank() != 0) return;
    // The other rank's destructor and this call come together: one of the two saves is made.
    writer.save_alone(state_at(1), rank.shards, rank.optimizer);
    GIMBAL_CHECK(writer.saved_step() == 1U, "saved");
    writer.save_alone(state_at(2), rank.shards, rank.optimizer);
    GIMBAL_CHECK(writer.saved_step() == 2U, "saved");
  });
  EXPECT_EQ(names_in(folder / "checkpoints"),
            (std::set<std::string>{"step-00000001", "step-00000002"}));
  run_ranks(1, [&](Comm& world) {
    GIMBAL_CHECK(
        equal_ranks(load(folder.path(), {}, world), filled_rank(mesh_parameters(), {}, 0, 3)),
        "other values");
  });
}

TEST(CheckpointWriter, ARankWithPartsCannotSaveAlone) {
  const TempFolder folder;
  for (const MeshShape& mesh : {kTwoShards, MeshShape{2, 1, 1, 1, 1}, MeshShape{1, 1, 1, 1, 2}}) {
    run_ranks(2, [&](Comm& world) {
      CheckpointWriter writer(folder.path(), world, mesh, rules_with(9));
      const MeshRank rank = filled_rank(mesh_parameters(), mesh, world.rank(), 3);
      GIMBAL_CHECK(!writer.can_save_alone(rank.shards), "mesh ", to_string(mesh));
      EXPECT_THROW(writer.save_alone(state_at(1), rank.shards, rank.optimizer), InternalError);
    });
  }
  const MeshShape sequence{1, 1, 1, 2, 1};
  run_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, sequence, rules_with(9));
    const MeshRank rank = filled_rank(mesh_parameters(), sequence, world.rank(), 3);
    GIMBAL_CHECK(writer.can_save_alone(rank.shards), "sequence parts have all parameters");
  });
}

}  // namespace
}  // namespace gimbal
