// Checkpoints of several ranks: written on one mesh, read on another.
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/checkpoint_reader.h"
#include "gimbal/checkpoint/checkpoint_writer.h"
#include "unit/base/temp_folder.h"
#include "unit/checkpoint/mesh_shards.h"
#include "unit/checkpoint/small_run.h"
#include "unit/checkpoint/thread_ranks.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using testing::empty_rank;
using testing::equal_ranks;
using testing::errors_of_ranks;
using testing::filled_rank;
using testing::mesh_parameters;
using testing::MeshParameter;
using testing::MeshRank;
using testing::run_ranks;
using testing::state_at;
using testing::TempFolder;
using testing::values_of;

// pp, dp_replicate, dp_shard, sp, tp
const std::vector<MeshShape> kMeshes{{1, 1, 1, 1, 1}, {1, 1, 4, 1, 1}, {1, 2, 2, 1, 1},
                                     {1, 1, 1, 1, 4}, {1, 1, 2, 1, 2}, {1, 1, 1, 2, 2},
                                     {2, 1, 2, 1, 1}, {2, 1, 1, 1, 2}, {2, 2, 1, 1, 1},
                                     {4, 1, 1, 1, 1}, {2, 1, 1, 1, 1}, {1, 1, 3, 1, 1}};

CheckpointRules in_place() {
  CheckpointRules rules;
  rules.background = false;
  return rules;
}

fs::path save_on(const fs::path& run, const MeshShape& mesh, std::uint64_t step = 5) {
  run_ranks(mesh.devices(), [&](Comm& world) {
    CheckpointWriter writer(run, world, mesh, in_place());
    const MeshRank rank = filled_rank(mesh_parameters(), mesh, world.rank(), 3);
    writer.save(state_at(step), rank.shards, rank.optimizer);
  });
  return *find_latest_checkpoint(run);
}

TEST(ShardedCheckpoint, AnyMeshGoesOnFromAnyMesh) {
  const std::vector<MeshParameter> parameters = mesh_parameters();
  for (const MeshShape& from : kMeshes) {
    const TempFolder folder;
    const fs::path path = save_on(folder.path(), from);
    for (const MeshShape& to : kMeshes) {
      run_ranks(to.devices(), [&](Comm& world) {
        const MeshRank rank = empty_rank(parameters, to, world.rank());
        const TrainingState state = load_checkpoint(path, rank.shards, rank.optimizer, world);
        GIMBAL_CHECK(state == state_at(5), "another state");
        GIMBAL_CHECK(equal_ranks(rank, filled_rank(parameters, to, world.rank(), 3)), "",
                     to_string(from), " -> ", to_string(to));
      });
    }
  }
}

TEST(ShardedCheckpoint, TheReaderPutsParametersTogether) {
  for (const MeshShape& mesh : kMeshes) {
    const TempFolder folder;
    const CheckpointReader reader(save_on(folder.path(), mesh));
    EXPECT_EQ(reader.state(), state_at(5));
    EXPECT_EQ(reader.mesh(), to_string(mesh));
    std::vector<std::string> names;
    for (const MeshParameter& parameter : mesh_parameters()) {
      names.push_back(parameter.name);
      const at::Tensor read = reader.tensor(parameter.name);
      EXPECT_EQ(read.sizes(), at::IntArrayRef(parameter.shape));
      EXPECT_TRUE(at::equal(read, values_of(parameter, 3))) << parameter.name << to_string(mesh);
    }
    std::sort(names.begin(), names.end());
    EXPECT_EQ(reader.names(), names);
    EXPECT_NE(
        testing::message_of<UserError>([&] { reader.tensor("w"); }).find("has no parameter 'w'"),
        std::string::npos);
  }
}

TEST(ShardedCheckpoint, ReplicasShareTheWriting) {
  const TempFolder folder;
  const MeshShape mesh{1, 2, 1, 2, 1};
  const CheckpointReader reader(save_on(folder.path(), mesh));
  std::map<std::string, std::int64_t> values_in;
  std::int64_t saved = 0, wanted = 0;
  for (const auto& [name, tensor] : reader.index().parameters) {
    wanted += numel_of(tensor.shape);
    for (const SavedPiece& piece : tensor.pieces) {
      values_in[piece.file] += piece.piece.numel;
      saved += piece.piece.numel;
    }
  }
  EXPECT_EQ(saved, wanted);         // each value once
  EXPECT_EQ(values_in.size(), 3U);  // layers 0, 1 and 2 by three of the four replicas
}

TEST(ShardedCheckpoint, WeightsAloneLoadWithOtherFrozenParts) {
  const TempFolder folder;
  const fs::path path = save_on(folder.path(), {1, 1, 2, 1, 1});
  std::vector<MeshParameter> parameters = mesh_parameters();
  for (MeshParameter& parameter : parameters) parameter.trainable = !parameter.trainable;
  const MeshShape mesh{1, 1, 1, 1, 2};
  run_ranks(2, [&](Comm& world) {
    const MeshRank rank = empty_rank(parameters, mesh, world.rank());
    load_checkpoint_weights(path, rank.shards, world, VerifyFirst::kNo);
    const MeshRank filled = filled_rank(parameters, mesh, world.rank(), 3);
    for (std::size_t s = 0; s < rank.shards.size(); ++s)
      GIMBAL_CHECK(at::equal(rank.shards[s].values, filled.shards[s].values), "other weights");
  });
  const auto errors = errors_of_ranks(2, [&](Comm& world) {
    const MeshRank rank = empty_rank(parameters, mesh, world.rank());
    load_checkpoint(path, rank.shards, rank.optimizer, world);
  });
  EXPECT_NE(errors[0].find("has no 'vision.0.weight.first_moment'"), std::string::npos)
      << errors[0];
}

// A mesh's ranks try to load what does not fit; all of them fail, and none has changed.
std::vector<std::string> refused(const fs::path& path, const std::vector<MeshParameter>& parameters,
                                 const MeshShape& mesh, at::ScalarType dtype = at::kFloat) {
  return errors_of_ranks(mesh.devices(), [&](Comm& world) {
    const MeshRank rank = empty_rank(parameters, mesh, world.rank(), dtype);
    try {
      load_checkpoint(path, rank.shards, rank.optimizer, world);
    } catch (const UserError&) {
      GIMBAL_CHECK(equal_ranks(rank, empty_rank(parameters, mesh, world.rank(), dtype)),
                   "a failed load has changed values");
      throw;
    }
  });
}

TEST(ShardedCheckpoint, WhatOneRankFindsStopsAllRanksUnchanged) {
  const TempFolder folder;
  const fs::path path = save_on(folder.path(), {1, 1, 4, 1, 1});
  const MeshShape stages{2, 1, 1, 1, 1};  // rank 0: vision.0, text.embed, text.0
  auto other = mesh_parameters();
  other.front().shape = {5, 6};
  auto errors = refused(path, other, stages);
  const std::string shape =
      path.string() + ": 'vision.0.weight' has the shape [6, 5], the model asks for [5, 6]";
  EXPECT_EQ(errors[0].find(shape), 0U) << errors[0];
  EXPECT_EQ(errors[1].find("rank 0: " + shape), 0U) << errors[1];

  other = mesh_parameters();
  other.back().name = "text.head.new";
  errors = refused(path, other, stages);
  EXPECT_EQ(errors[0].find("rank 1: " + path.string() + ": has no 'text.head.new'"), 0U)
      << errors[0];

  other = mesh_parameters();
  other.pop_back();
  for (const std::string& error : refused(path, other, stages)) {
    EXPECT_NE(error.find("has 'text.head.scale', which this run has no place for"),
              std::string::npos)
        << error;
  }
  for (const std::string& error : refused(path, mesh_parameters(), stages, at::kDouble))
    EXPECT_NE(error.find("is F32, this run keeps F64"), std::string::npos) << error;
}

void rewrite(const fs::path& checkpoint, const std::function<void(Json&)>& change) {
  Json index = read_json(checkpoint / "index.json");
  change(index);
  const std::string text = index.dump();
  write_file_atomic(checkpoint / "index.json", text);
  Json state = read_json(checkpoint / "state.json");
  state["files"]["index.json"] = {{"bytes", text.size()}, {"sha256", sha256_of(text)}};
  state.erase("sha256");
  state["sha256"] = sha256_of(state.dump());
  write_file_atomic(checkpoint / "state.json", state.dump());
}

TEST(ShardedCheckpoint, HolesOverlapsAndWrongPlacesAreNamed) {
  const TempFolder folder;
  const MeshShape mesh{1, 1, 2, 1, 1};
  const auto expect_error = [&](const std::function<void(Json&)>& change,
                                const std::string& reason) {
    const fs::path path = save_on(folder.path(), mesh);
    rewrite(path, change);
    const auto errors = refused(path, mesh_parameters(), mesh);
    for (const std::string& error : errors)
      EXPECT_NE(error.find(reason), std::string::npos) << error;
    EXPECT_EQ(find_latest_checkpoint(folder.path()), std::nullopt);
    fs::remove_all(path);
  };
  const auto pieces = [](Json& index) -> Json& {
    return index["parameters"]["text.0.q.weight"]["pieces"];
  };
  expect_error([&](Json& index) { pieces(index).erase(0); }, "'text.0.q.weight'");
  expect_error([&](Json& index) { pieces(index).push_back(pieces(index)[0]); },
               "'text.0.q.weight': has value 0 of its part from index 0 twice");
  expect_error([&](Json& index) { pieces(index)[0]["file"] = "../rank-00000.safetensors"; },
               "which is no plain file name");
  expect_error([&](Json& index) { pieces(index)[0]["file"] = "state.json"; },
               "which is none of the checkpoint's files");
  expect_error([&](Json& index) { pieces(index)[0]["begin"] = -1; },
               "key 'begin' is no whole number");
  expect_error([&](Json& index) { pieces(index)[0]["dim"] = std::int64_t{1} << 40; },
               "has no dim 1099511627776");
  expect_error([&](Json& index) { pieces(index) = 3; }, "key 'pieces' is no list");
  expect_error([&](Json& index) { index["parameters"]["text.0.q.weight"] = 3; },
               "is described by 3");
  expect_error(
      [&](Json& index) {
        index["parameters"]["text.0.q.weight"]["shape"] = {1LL << 40, 1LL << 40};
      },
      "has no possible shape");
  expect_error([&](Json& index) { index["parameters"]["text.0.q.weight"]["dtype"] = "F31"; },
               "dtype 'F31' is not supported");
  expect_error([&](Json& index) { index["optimizer"] = 3; }, "'optimizer' is no JSON object");
  expect_error([&](Json& index) { index = Json::array(); }, "is no index of a checkpoint");
}

TEST(ShardedCheckpoint, AFileThatDoesNotHoldWhatTheIndexSaysIsNamed) {
  const TempFolder folder;
  const fs::path path = save_on(folder.path(), {});
  rewrite(path, [](Json& index) {
    Json& pieces = index["parameters"]["text.0.q.weight"]["pieces"];
    pieces[0]["numel"] = 40;
    pieces.push_back(pieces[0]);
    pieces[1]["begin"] = 40;
    pieces[1]["numel"] = 30;
  });
  const std::string message =
      testing::message_of<UserError>([&] { CheckpointReader(path).tensor("text.0.q.weight"); });
  EXPECT_NE(message.find("rank-00000.safetensors: 'text.0.q.weight' has 70 values of F32, the "
                         "checkpoint's index says 40 of F32"),
            std::string::npos)
      << message;
}

TEST(ShardedCheckpoint, DamageToAnyFileIsFoundByAllRanks) {
  const TempFolder folder;
  const MeshShape mesh{1, 1, 3, 1, 1};
  const fs::path good = save_on(folder.path(), mesh, 1);
  const fs::path bad = save_on(folder.path(), mesh, 2);
  for (const char* name : {"rank-00000.safetensors", "rank-00001.safetensors",
                           "rank-00002.safetensors", "index.json", "state.json"}) {
    const std::string content = read_file(bad / name);
    std::string damaged = content;
    damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
    write_file_atomic(bad / name, damaged);
    ::testing::internal::CaptureStderr();
    run_ranks(3, [&](Comm& world) {
      GIMBAL_CHECK(find_latest_checkpoint(folder.path(), world) == good, "the wrong one");
    });
    const std::string log = ::testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find(bad.string() + " is not used: "), std::string::npos) << log;
    EXPECT_NE(log.find(name), std::string::npos) << log;
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;  // rank 0 alone warns
    EXPECT_EQ(find_latest_checkpoint(folder.path()), good) << name;
    write_file_atomic(bad / name, content);
  }
  EXPECT_EQ(find_latest_checkpoint(folder.path()), bad);
}

TEST(ShardedCheckpoint, PiecesThatLeaveAHoleAreNeverPublished) {
  const TempFolder folder;
  const MeshShape mesh{1, 1, 2, 1, 1};
  const auto errors = errors_of_ranks(2, [&](Comm& world) {
    CheckpointWriter writer(folder.path(), world, mesh, in_place());
    MeshRank rank = filled_rank(mesh_parameters(), mesh, world.rank(), 3);
    if (world.rank() == 1) rank.shards[2].slices.clear();
    writer.save(state_at(5), rank.shards, rank.optimizer);
  });
  for (const std::string& error : errors)
    EXPECT_NE(error.find("do not make up the tensor"), std::string::npos) << error;
  EXPECT_TRUE(fs::is_empty(folder / "checkpoints"));
}

}  // namespace
}  // namespace gimbal
