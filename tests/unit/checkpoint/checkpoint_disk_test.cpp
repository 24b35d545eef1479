// Saving where it cannot work: full disk, no permission, a file in the way. The checkpoint before
// stays as it is.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/base/temp_folder.h"
#include "unit/checkpoint/small_run.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using testing::message_of;
using testing::small_run;
using testing::SmallRun;
using testing::state_at;
using testing::TempFolder;

constexpr std::int64_t kLarge = 1 << 20;  // floats
constexpr uid_t kNobody =
    65534;  // root may write everywhere, so it becomes somebody else for a while

SmallRun large_run() {
  SmallRun run = small_run(-1, at::kFloat, {kLarge, 1});
  for (at::Tensor* flat :
       {&run.shards[0].values, &run.optimizer[0].per_shard[0], &run.optimizer[1].per_shard[0]}) {
    *flat = at::zeros({kLarge + 4});
  }
  run.shards[0].slices[1].offset = kLarge;
  return run;
}

fs::path save(const fs::path& run_folder, std::uint64_t step, const SmallRun& run) {
  return save_checkpoint(run_folder, state_at(step), run.shards, run.optimizer);
}

// After a failed save of step 2: step 1 is the last, and nothing is left of step 2.
void expect_first_is_intact(const fs::path& run_folder) {
  EXPECT_EQ(find_latest_checkpoint(run_folder), run_folder / "checkpoints/step-00000001");
  EXPECT_FALSE(fs::exists(run_folder / "checkpoints/step-00000002"));
  EXPECT_FALSE(fs::exists(run_folder / "checkpoints/step-00000002.partial"));
}

TEST(CheckpointDisk, AFullDiskKeepsTheCheckpointBefore) {
  const TempFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=4m") != 0)
    GTEST_SKIP() << "cannot mount a small disk";
  save(folder.path(), 1, small_run(1));
  const std::string message = message_of<UserError>([&] { save(folder.path(), 2, large_run()); });
  EXPECT_NE(message.find("checkpoints/step-00000002.partial/"), std::string::npos) << message;
  EXPECT_NE(message.find("No space left on device"), std::string::npos) << message;
  expect_first_is_intact(folder.path());
  save(folder.path(), 2, small_run(1));  // what was written is freed again
  EXPECT_EQ(find_latest_checkpoint(folder.path()), folder / "checkpoints/step-00000002");
  EXPECT_EQ(::umount(folder.path().c_str()), 0);
}

// Needs no rights: the process may write no file of more than 1 MiB.
TEST(CheckpointDisk, AFailedWriteKeepsTheCheckpointBefore) {
  const TempFolder folder;
  save(folder.path(), 1, small_run(1));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message = message_of<UserError>([&] { save(folder.path(), 2, large_run()); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("checkpoints/step-00000002.partial/rank-00000.safetensors: cannot write"),
            std::string::npos)
      << message;
  expect_first_is_intact(folder.path());
}

TEST(CheckpointDisk, AReadOnlyRunFolderIsNamed) {
  const TempFolder folder;
  save(folder.path(), 1, small_run(1));
  const fs::path inside = folder / "checkpoints";
  const uid_t user = ::geteuid();
  ASSERT_EQ(::chmod(folder.path().c_str(), 0555), 0);
  ASSERT_EQ(::chmod(inside.c_str(), 0555), 0);
  if (user == 0) {
    ASSERT_EQ(::seteuid(kNobody), 0);
  }
  const std::string message = message_of<UserError>([&] { save(folder.path(), 2, small_run(1)); });
  const auto latest = find_latest_checkpoint(folder.path());
  if (user == 0) {
    ASSERT_EQ(::seteuid(user), 0);
  }
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(inside.c_str(), 0755), 0);
  EXPECT_NE(message.find(inside.string()), std::string::npos) << message;
  EXPECT_NE(message.find("Permission denied"), std::string::npos) << message;
  EXPECT_EQ(latest, inside / "step-00000001");
  expect_first_is_intact(folder.path());
}

TEST(CheckpointDisk, RemovingWithoutPermissionIsNamed) {
  const TempFolder folder;
  for (const std::uint64_t step : {1, 2}) save(folder.path(), step, small_run(1));
  const fs::path inside = folder / "checkpoints";
  const uid_t user = ::geteuid();
  ASSERT_EQ(::chmod(inside.c_str(), 0555), 0);
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  if (user == 0) {
    ASSERT_EQ(::seteuid(kNobody), 0);
  }
  const std::string message =
      message_of<UserError>([&] { prune_checkpoints(folder.path(), 1, 2); });
  if (user == 0) {
    ASSERT_EQ(::seteuid(user), 0);
  }
  ASSERT_EQ(::chmod(inside.c_str(), 0755), 0);
  EXPECT_NE(message.find("step-00000001: cannot remove the old checkpoint"), std::string::npos)
      << message;
  EXPECT_EQ(find_latest_checkpoint(folder.path()), inside / "step-00000002");
}

TEST(CheckpointDisk, AFileInTheWayIsNamed) {
  const TempFolder folder;
  write_file_atomic(folder / "checkpoints", "a file");
  const std::string message = message_of<UserError>([&] { save(folder.path(), 1, small_run(1)); });
  EXPECT_NE(message.find((folder / "checkpoints").string()), std::string::npos) << message;
  EXPECT_NE(message_of<UserError>([&] {
              find_latest_checkpoint(folder.path());
            }).find("cannot list the checkpoints"),
            std::string::npos);
}

}  // namespace
}  // namespace gimbal
