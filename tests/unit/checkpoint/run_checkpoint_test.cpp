#include "gimbal/checkpoint/run_checkpoint.h"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <set>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/checkpoint_reader.h"
#include "gimbal/checkpoint/safetensors.h"
#include "unit/base/names_in.h"
#include "unit/base/temp_folder.h"
#include "unit/checkpoint/small_run.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using testing::message_of;
using testing::names_in;
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
  const SafetensorsReader file(path / "rank-00000.safetensors");
  EXPECT_EQ(file.names(), (std::vector<std::string>{
                              "text.a", "text.a.first_moment", "text.a.second_moment", "text.b",
                              "text.b.first_moment", "text.b.second_moment", "vision.c"}));
  const Json index = read_json(path / "index.json");
  EXPECT_EQ(index["parameters"]["text.a"],
            (Json{{"shape", {2, 3}},
                  {"dtype", "F32"},
                  {"pieces", {{{"file", "rank-00000.safetensors"}, {"begin", 0}, {"numel", 6}}}}}));
}

// As Gimbal wrote them before there were several ranks' files.
fs::path save_version_1(const fs::path& run_folder, const SmallRun& run) {
  const fs::path path = run_folder / "checkpoints/step-00000007";
  make_folders(path);
  const auto write = [&](const char* file, const std::vector<TensorSpec>& specs,
                         const std::vector<at::Tensor>& values) {
    SafetensorsWriter writer(path / file, specs, {{"format", "pt"}});
    for (std::size_t i = 0; i < specs.size(); ++i)
      writer.write(specs[i].name, values[i].view(specs[i].shape));
    writer.close();
  };
  const auto part = [](const at::Tensor& flat, std::int64_t begin, std::int64_t numel) {
    return flat.narrow(0, begin, numel);
  };
  write(
      "model.safetensors",
      {{"text.a", at::kFloat, {2, 3}}, {"text.b", at::kFloat, {4}}, {"vision.c", at::kFloat, {5}}},
      {part(run.shards[0].values, 0, 6), part(run.shards[0].values, 8, 4), run.shards[1].values});
  std::vector<TensorSpec> specs;
  std::vector<at::Tensor> moments;
  for (const OptimizerTensors& kind : run.optimizer) {
    specs.push_back({"text.a." + kind.name, at::kFloat, {2, 3}});
    specs.push_back({"text.b." + kind.name, at::kFloat, {4}});
    moments.push_back(part(kind.per_shard[0], 0, 6));
    moments.push_back(part(kind.per_shard[0], 8, 4));
  }
  write("optimizer.safetensors", specs, moments);
  Json json{{"format", "gimbal-checkpoint"}, {"version", 1}, {"state", to_json(state_at(7))}};
  for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
    json["files"][file] = {{"bytes", fs::file_size(path / file)},
                           {"sha256", sha256_of_file(path / file)}};
  }
  write_file_atomic(path / "state.json", json.dump());
  rewrite_state(path, [](Json&) {});
  return path;
}

TEST(RunCheckpoint, Version1StillLoads) {
  const TempFolder folder;
  const SmallRun saved = small_run(1);
  const fs::path path = save_version_1(folder.path(), saved);
  EXPECT_EQ(find_latest_checkpoint(folder.path()), path);
  const SmallRun loaded = small_run(-1);
  EXPECT_EQ(load_checkpoint(path, loaded.shards, loaded.optimizer), state_at(7));
  for (const auto& [begin, numel] : {std::pair{0, 6}, std::pair{8, 4}}) {
    const auto part = [begin, numel](const at::Tensor& flat) {
      return flat.narrow(0, begin, numel);
    };
    EXPECT_TRUE(at::equal(part(loaded.shards[0].values), part(saved.shards[0].values)));
    for (std::size_t k = 0; k < 2; ++k) {
      EXPECT_TRUE(
          at::equal(part(loaded.optimizer[k].per_shard[0]), part(saved.optimizer[k].per_shard[0])));
    }
  }
  EXPECT_TRUE(at::equal(loaded.shards[1].values, saved.shards[1].values));
  const CheckpointReader reader(path);
  EXPECT_EQ(reader.mesh(), "");
  EXPECT_EQ(reader.tensor("text.a").sizes(), (at::IntArrayRef{2, 3}));

  flip_byte(path / "optimizer.safetensors", 100);
  EXPECT_NE(load_error(path, loaded).find("does not match its checksum"), std::string::npos);
  fs::remove(path / "optimizer.safetensors");
  EXPECT_NE(load_error(path, loaded).find("optimizer.safetensors: is missing"), std::string::npos);
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
  expect_skipped([](const fs::path& c) { fs::remove(c / "index.json"); }, "index.json: is missing");
  expect_skipped([](const fs::path& c) { fs::remove(c / "rank-00000.safetensors"); },
                 "rank-00000.safetensors: is missing");
  expect_skipped(
      [](const fs::path& c) {
        flip_byte(c / "rank-00000.safetensors", fs::file_size(c / "rank-00000.safetensors") - 1);
      },
      "rank-00000.safetensors: its content does not match its checksum");
  expect_skipped([](const fs::path& c) { flip_byte(c / "index.json", 100); },
                 "index.json: its content does not match its checksum");
  expect_skipped([](const fs::path& c) { fs::resize_file(c / "rank-00000.safetensors", 50); },
                 "rank-00000.safetensors: has 50 bytes instead of");
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
        rewrite_state(c, [](Json& json) { json["files"].erase("index.json"); });
      },
      "key 'index.json' is missing");
  expect_skipped(
      [](const fs::path& c) {
        rewrite_state(c, [](Json& json) { json["files"]["../x"] = json["files"]["index.json"]; });
      },
      "'../x' is no plain file name");
  expect_skipped([](const fs::path& c) { rewrite_state(c, [](Json& json) { json["files"] = 3; }); },
                 "key 'files' is no JSON object");
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
  expect_refused(small_run(5, at::kFloat, {2, 3}, "text.new"), "step-00000001: has no 'text.new'");
  expect_refused(small_run(5, at::kDouble), "'text.a' is F32, this run keeps F64");
  SmallRun fewer = small_run(5);
  fewer.shards.pop_back();
  for (auto& kind : fewer.optimizer) kind.per_shard.pop_back();
  expect_refused(fewer, "step-00000001: has 'vision.c', which this run has no place for");
  SmallRun frozen = small_run(5);
  for (auto& kind : frozen.optimizer) kind.per_shard[0] = at::Tensor();
  expect_refused(frozen,
                 "step-00000001: has 'text.a.first_moment', which this run has no place for");
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

TEST(RunCheckpoint, PruningRenamesWhatTheRunHasGoneBackPast) {
  const TempFolder folder;
  const auto inside = [&](const std::string& name) { return folder / ("checkpoints/" + name); };
  for (const std::uint64_t step : {50, 60, 100}) save(folder.path(), step);
  ::testing::internal::CaptureStderr();
  prune_checkpoints(folder.path(), 1, 60);
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(find_latest_checkpoint(folder.path()), inside("step-00000060"));
  EXPECT_FALSE(fs::exists(inside("step-00000050")));
  EXPECT_FALSE(fs::exists(inside("step-00000100")));
  EXPECT_EQ(verify_checkpoint(inside("step-00000100.unused")), state_at(100));
  EXPECT_NE(log.find("is now " + inside("step-00000100.unused").string()), std::string::npos)
      << log;
  // Once more: nothing is lost, and the next start leaves them alone.
  save(folder.path(), 100);
  prune_checkpoints(folder.path(), 1, 60);
  remove_unfinished_checkpoints(folder.path());
  EXPECT_TRUE(fs::exists(inside("step-00000100.unused/state.json")));
  EXPECT_TRUE(fs::exists(inside("step-00000100.unused-2/state.json")));
}

TEST(RunCheckpoint, ASaveOverADamagedOneSetsItAside) {
  const TempFolder folder;
  const fs::path path = save(folder.path(), 4);
  flip_byte(path / "index.json", 100);
  save(folder.path(), 4);
  EXPECT_EQ(verify_checkpoint(path), state_at(4));
  EXPECT_TRUE(fs::exists(path.string() + ".unused/index.json"));
}

// What a process leaves that is killed between the two renames of a file system without an
// exchange of names.
TEST(RunCheckpoint, ACheckpointThatWasBeingReplacedIsPutBack) {
  const TempFolder folder;
  const fs::path path = save(folder.path(), 4);
  fs::rename(path, path.string() + ".partial.replaced");
  make_folders(path.string() + ".partial");
  remove_unfinished_checkpoints(folder.path());
  EXPECT_EQ(find_latest_checkpoint(folder.path()), path);
  EXPECT_FALSE(fs::exists(path.string() + ".partial"));
  EXPECT_FALSE(fs::exists(path.string() + ".partial.replaced"));
  // Killed after the second one: the old content goes.
  make_folders(path.string() + ".partial.replaced/x");
  remove_unfinished_checkpoints(folder.path());
  EXPECT_FALSE(fs::exists(path.string() + ".partial.replaced"));
  EXPECT_EQ(find_latest_checkpoint(folder.path()), path);
}

TEST(RunCheckpoint, WhatCannotBeReadNowIsNoDamage) {
  const TempFolder folder;
  for (const std::uint64_t step : {1, 2}) save(folder.path(), step);
  for (const char* file : {"state.json", "index.json", "rank-00000.safetensors"}) {
    const fs::path path = folder / "checkpoints/step-00000002" / file;
    const std::string content = read_file(path);
    fs::remove(path);
    fs::create_symlink(path.filename(), path);  // leads to itself
    const std::string message =
        message_of<UserError>([&] { find_latest_checkpoint(folder.path()); });
    EXPECT_NE(message.find(path.string()), std::string::npos) << message;
    EXPECT_NE(message.find("step-00000002 may be good: make it readable"), std::string::npos)
        << message;
    fs::remove(path);
    write_file_atomic(path, content);
  }
  EXPECT_EQ(find_latest_checkpoint(folder.path()), folder / "checkpoints/step-00000002");
}

TEST(RunCheckpoint, PruningKeepsMultiples) {
  const TempFolder folder;
  for (const std::uint64_t step : {10, 15, 20, 25, 30}) save(folder.path(), step);
  fs::remove(folder / "checkpoints/step-00000025/state.json");
  prune_checkpoints(folder.path(), 1, 25, 10);
  // 25 is damaged and newer than what is kept, 30 lies past the current step.
  EXPECT_EQ(names_in(folder / "checkpoints"),
            (std::set<std::string>{"step-00000010", "step-00000020", "step-00000025",
                                   "step-00000030.unused"}));
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
