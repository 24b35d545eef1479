#include "gimbal/checkpoint/run_checkpoint.h"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/safetensors.h"
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

fs::path save(const fs::path& run_folder, std::uint64_t step, const SmallRun& run = small_run(1)) {
  return save_checkpoint(run_folder, state_at(step), run.shards, run.optimizer);
}

std::string load_error(const fs::path& checkpoint, const SmallRun& run) {
  return message_of<UserError>([&] { load_checkpoint(checkpoint, run.shards, run.optimizer); });
}

void flip_byte(const fs::path& path, std::size_t at) {
  std::string content = read_file(path);
  content.at(at) = static_cast<char>(content[at] ^ 1);
  write_file_atomic(path, content);
}

// Makes the checksums fit again after a change, as a program of another version would write them.
void rewrite_state(const fs::path& checkpoint, const std::function<void(Json&)>& change) {
  Json json = read_json(checkpoint / "state.json");
  change(json);
  json.erase("sha256");
  json["sha256"] = sha256_of(json.dump());
  write_file_atomic(checkpoint / "state.json", json.dump());
}

TEST(RunCheckpoint, RoundTripIsExact) {
  const TempFolder folder;
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const SmallRun saved = small_run(1.1, dtype);
    const fs::path path =
        save_checkpoint(folder.path(), state_at(100), saved.shards, saved.optimizer);
    EXPECT_EQ(path, folder / "checkpoints/step-00000100");
    const SmallRun loaded = small_run(-1, dtype);
    EXPECT_EQ(load_checkpoint(path, loaded.shards, loaded.optimizer), state_at(100));
    for (std::size_t s = 0; s < 2; ++s) {
      for (const auto& slice : saved.shards[s].slices) {
        const auto part = [&](const at::Tensor& flat) {
          return flat.narrow(0, slice.offset, slice.parameter->numel());
        };
        EXPECT_TRUE(at::equal(part(loaded.shards[s].values), part(saved.shards[s].values)));
        for (std::size_t k = 0; k < 2 && s == 0; ++k) {
          EXPECT_TRUE(at::equal(part(loaded.optimizer[k].per_shard[s]),
                                part(saved.optimizer[k].per_shard[s])));
        }
      }
    }
    // The padding between parameters is nobody's value.
    EXPECT_EQ(loaded.shards[0].values[6].item<double>(), 0.0);
  }
}

TEST(RunCheckpoint, FilesNameParametersAndNotShards) {
  const TempFolder folder;
  const fs::path path = save(folder.path(), 3);
  const SafetensorsReader model(path / "model.safetensors"),
      optimizer(path / "optimizer.safetensors");
  EXPECT_EQ(model.names(), (std::vector<std::string>{"text.a", "text.b", "vision.c"}));
  EXPECT_EQ(model.tensor("text.a").sizes(), (at::IntArrayRef{2, 3}));
  EXPECT_EQ(optimizer.names(),
            (std::vector<std::string>{"text.a.first_moment", "text.a.second_moment",
                                      "text.b.first_moment", "text.b.second_moment"}));
}

TEST(RunCheckpoint, LatestIsTheNewestCompleteOne) {
  const TempFolder folder;
  EXPECT_EQ(find_latest_checkpoint(folder.path()), std::nullopt);
  save(folder.path(), 9);
  save(folder.path(), 100000000);  // more digits than the name is padded to
  make_folders(folder / "checkpoints/step-99999999999.partial");
  make_folders(folder / "checkpoints/step-x");
  make_folders(folder / "checkpoints/notes");
  EXPECT_EQ(find_latest_checkpoint(folder.path()), folder / "checkpoints/step-100000000");
}

TEST(RunCheckpoint, DamagedOnesAreSkippedWithAWarningThatSaysWhy) {
  const TempFolder folder;
  const fs::path good = save(folder.path(), 1);
  const auto expect_skipped = [&](const std::function<void(const fs::path&)>& damage,
                                  const std::string& reason) {
    const fs::path bad = save(folder.path(), 2);
    damage(bad);
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(find_latest_checkpoint(folder.path()), good);
    const std::string log = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find(bad.string() + " is not used"), std::string::npos) << log;
    EXPECT_NE(log.find(reason), std::string::npos) << log;
    EXPECT_NE(load_error(bad, small_run(1)).find(reason), std::string::npos);
    fs::remove_all(bad);
  };
  expect_skipped([](const fs::path& c) { fs::remove(c / "state.json"); }, "state.json: is missing");
  expect_skipped([](const fs::path& c) { fs::remove(c / "optimizer.safetensors"); },
                 "optimizer.safetensors: is missing");
  expect_skipped(
      [](const fs::path& c) {
        flip_byte(c / "model.safetensors", fs::file_size(c / "model.safetensors") - 1);
      },
      "model.safetensors: its content does not match its checksum");
  expect_skipped([](const fs::path& c) { flip_byte(c / "optimizer.safetensors", 100); },
                 "optimizer.safetensors: its content does not match its checksum");
  expect_skipped([](const fs::path& c) { fs::resize_file(c / "model.safetensors", 50); },
                 "model.safetensors: has 50 bytes instead of");
  expect_skipped([](const fs::path& c) { fs::resize_file(c / "state.json", 50); }, "state.json");
  expect_skipped(
      [](const fs::path& c) {
        std::string text = read_file(c / "state.json");
        text.replace(text.find("5678"), 4, "5679");
        write_file_atomic(c / "state.json", text);
      },
      "state.json: its content does not match its checksum");
  expect_skipped([](const fs::path& c) { write_file_atomic(c / "state.json", "[]"); },
                 "is no state of a checkpoint");
  expect_skipped(
      [](const fs::path& c) { rewrite_state(c, [](Json& json) { json["version"] = 99; }); },
      "has format version 99");
  expect_skipped(
      [](const fs::path& c) {
        rewrite_state(c, [](Json& json) { json["files"].erase("model.safetensors"); });
      },
      "key 'model.safetensors' is missing");
}

TEST(RunCheckpoint, AnotherModelIsRefusedAndNothingIsChanged) {
  const TempFolder folder;
  const fs::path path = save(folder.path(), 1);
  const auto expect_refused = [&](const SmallRun& run, const std::string& reason) {
    const at::Tensor before = run.shards[0].values.clone();
    const std::string message = load_error(path, run);
    EXPECT_NE(message.find(reason), std::string::npos) << message;
    EXPECT_TRUE(at::equal(run.shards[0].values, before));
  };
  expect_refused(small_run(5, at::kFloat, {3, 2}),
                 "'text.a' has the shape [2, 3], the model asks for [3, 2]");
  expect_refused(small_run(5, at::kFloat, {2, 3}, "text.new"),
                 "model.safetensors: has no 'text.new'");
  expect_refused(small_run(5, at::kDouble), "'text.a' is F32, this run keeps F64");
  SmallRun fewer = small_run(5);
  fewer.shards.pop_back();
  for (auto& kind : fewer.optimizer) kind.per_shard.pop_back();
  expect_refused(fewer, "model.safetensors: has 'vision.c', which this run has no place for");
  SmallRun frozen = small_run(5);
  for (auto& kind : frozen.optimizer) kind.per_shard[0] = at::Tensor();
  expect_refused(
      frozen, "optimizer.safetensors: has 'text.a.first_moment', which this run has no place for");
}

TEST(RunCheckpoint, ASecondSaveOfAStepReplacesIt) {
  const TempFolder folder;
  save(folder.path(), 4, small_run(1));
  const fs::path path = save(folder.path(), 4, small_run(2));
  const SmallRun loaded = small_run(-1);
  load_checkpoint(path, loaded.shards, loaded.optimizer);
  EXPECT_EQ(loaded.shards[0].values[0].item<float>(), 2.0F);
}

TEST(RunCheckpoint, PruningKeepsTheLastCompleteOnes) {
  const TempFolder folder;
  for (const std::uint64_t step : {1, 2, 3, 4}) save(folder.path(), step);
  fs::remove(folder / "checkpoints/step-00000004/state.json");
  make_folders(folder / "checkpoints/step-00000005.partial");
  make_folders(folder / "checkpoints/notes");
  prune_checkpoints(folder.path(), 2, 4);
  const auto has = [&](const std::string& name) {
    return fs::exists(folder / ("checkpoints/" + name));
  };
  EXPECT_FALSE(has("step-00000001"));
  EXPECT_TRUE(has("step-00000002"));
  EXPECT_TRUE(has("step-00000003"));
  EXPECT_TRUE(has("step-00000004"));  // newer than what is kept
  EXPECT_FALSE(has("step-00000005.partial"));
  EXPECT_TRUE(has("notes"));
  EXPECT_THROW(prune_checkpoints(folder.path(), 0, 4), InternalError);
  prune_checkpoints(folder / "no-such-run", 1, 4);
}

TEST(RunCheckpoint, PruningRemovesWhatTheRunHasGoneBackPast) {
  const TempFolder folder;
  for (const std::uint64_t step : {50, 60, 100}) save(folder.path(), step);
  prune_checkpoints(folder.path(), 1, 60);
  EXPECT_EQ(find_latest_checkpoint(folder.path()), folder / "checkpoints/step-00000060");
  EXPECT_FALSE(fs::exists(folder / "checkpoints/step-00000050"));
  EXPECT_FALSE(fs::exists(folder / "checkpoints/step-00000100"));
}

TEST(TrainingState, JsonNamesWhatIsWrong) {
  const TrainingState state = state_at(5);
  EXPECT_EQ(training_state_from_json(to_json(state), "F"), state);
  const auto error_with = [&](const char* key, const Json& value) {
    Json json = to_json(state);
    json[key] = value;
    return message_of<UserError>([&] { training_state_from_json(json, "F"); });
  };
  EXPECT_NE(error_with("step", -1).find("F: key 'step' is no whole number"), std::string::npos);
  EXPECT_NE(error_with("epoch", 1.5).find("F: key 'epoch' is no whole number"), std::string::npos);
  EXPECT_NE(error_with("stage", 3).find("F: key 'stage' has a wrong type"), std::string::npos);
  Json json = to_json(state);
  json.erase("samples");
  EXPECT_NE(message_of<UserError>([&] {
              training_state_from_json(json, "F");
            }).find("'samples' is missing"),
            std::string::npos);
  EXPECT_THROW(training_state_from_json(Json::array(), "F"), UserError);
}

}  // namespace
}  // namespace gimbal
