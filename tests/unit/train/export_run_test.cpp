#include "gimbal/train/export_run.h"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/checkpoint/checkpoint_writer.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "models/fake_ranks.h"
#include "train/small_models.h"
#include "unit/base/temp_folder.h"
#include "unit/checkpoint/mesh_shards.h"
#include "unit/checkpoint/small_run.h"
#include "unit/checkpoint/thread_ranks.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using testing::MeshParameter;
using testing::MeshRank;
using testing::message_of;
using testing::state_at;
using testing::TempFolder;

const Json kExportConfig = small_models::internvl_config("qwen3", true);

// The model's parameters, cut along dims that no layout table would choose.
std::vector<MeshParameter> parameters_of(const Model& model) {
  std::vector<MeshParameter> out;
  int number = 0;
  for (const auto& block : model.blocks) {
    for (const ParameterPtr& parameter : block->parameters()) {
      const int dims = static_cast<int>(parameter->shape.size());
      out.push_back({parameter->name, block->name(), parameter->shape,
                     dims == 0 ? -1 : number++ % (dims + 1) - 1});
    }
  }
  return out;
}

// Saved by four ranks: dp_shard 2, tp 2.
fs::path save_model(const fs::path& run, const std::vector<MeshParameter>& parameters) {
  const MeshShape mesh{1, 1, 2, 1, 2};
  testing::run_ranks(4, [&](Comm& world) {
    CheckpointWriter writer(run, world, mesh, {});
    const MeshRank rank = testing::filled_rank(parameters, mesh, world.rank(), 3);
    writer.save(state_at(4), rank.shards, rank.optimizer);
    writer.finish();
  });
  return run / "checkpoints/step-00000004";
}

TEST(ExportCheckpoint, PutsEveryParameterTogether) {
  const TempFolder folder;
  make_folders(folder / "origin");
  write_file_atomic(folder / "origin/tokenizer.json", "{}");
  const Model whole = make_model(kExportConfig, "test");
  const std::vector<MeshParameter> parameters = parameters_of(whole);
  const fs::path checkpoint = save_model(folder / "run", parameters);
  const Model part = make_model(kExportConfig, "test", tiny_models::cut_ports(1, 0, 2, 1));
  for (const Model* model : {&whole, &part}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      export_checkpoint(checkpoint, *model, dtype, folder / "origin", folder / "hf");
      const HfWeights weights(folder / "hf");
      EXPECT_EQ(weights.names().size(), parameters.size());
      for (const MeshParameter& parameter : parameters) {
        const at::Tensor written = weights.tensor(whole.hf_names.at(parameter.name));
        EXPECT_TRUE(at::equal(written, testing::values_of(parameter, 3).to(dtype)))
            << parameter.name;
      }
    }
  }
  EXPECT_EQ(read_json(folder / "hf/config.json")["dtype"], "bfloat16");
  EXPECT_EQ(read_file(folder / "hf/tokenizer.json"), "{}");
}

TEST(ExportCheckpoint, AnotherModelIsRefused) {
  const TempFolder folder;
  make_folders(folder / "origin");
  const Model model = make_model(kExportConfig, "test");
  const auto refused = [&](const std::vector<MeshParameter>& parameters) {
    const fs::path checkpoint = save_model(folder / "run", parameters);
    return message_of<UserError>([&] {
      export_checkpoint(checkpoint, model, at::kFloat, folder / "origin", folder / "hf");
    });
  };
  const auto expect_words = [](const std::string& message, const std::string& words) {
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  std::vector<MeshParameter> parameters = parameters_of(model);
  const std::string name = parameters[0].name;
  parameters.push_back({"text.more", "text.head", {3}, -1});
  expect_words(refused(parameters),
               concat("has ", parameters.size(), " parameters, the model has "));
  parameters.pop_back();
  parameters[0].shape.push_back(2);
  expect_words(refused(parameters), concat("'", name, "' has the shape "));
  parameters[0].name = "vision.other";
  expect_words(refused(parameters), concat("has no '", name, "'"));
  EXPECT_FALSE(fs::exists(folder / "hf"));
}

TEST(ExportRun, NamesWhatItCannotExport) {
  const TempFolder folder;
  const auto refused = [&](const std::string& checkpoint, const fs::path& out) {
    return message_of<UserError>([&] { export_run(folder / "run", checkpoint, out); });
  };
  const auto expect_words = [](const std::string& message, const std::string& words) {
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  make_folders(folder / "run");
  expect_words(refused("", folder / "hf"), "has no complete checkpoint to export");
  expect_words(refused("step-00000009", folder / "hf"), "which has nothing");
  const Model model = make_model(kExportConfig, "test");
  const fs::path checkpoint = save_model(folder / "run", parameters_of(model));
  expect_words(
      message_of<UserError>([&] { export_run(checkpoint, "", folder / "hf"); }),
      "'" + checkpoint.string() + "' is a checkpoint, and not a run folder. Give the run folder");
  const std::string where = (folder / "run/checkpoints").string();
  expect_words(refused("step-00000009", folder / "hf"),
               "--checkpoint 'step-00000009' is not in '" + where + "', which has step-00000004");
  expect_words(refused("../checkpoints/step-00000004", folder / "hf"), "is not in '");
  expect_words(refused("9", folder / "hf"), "Give a step (100), a name (step-00000100) or the");
  // A checkpoint of another run.
  fs::copy(folder / "run", folder / "other", fs::copy_options::recursive);
  expect_words(refused((folder / "other/checkpoints/step-00000004").string(), folder / "hf"),
               "is not in '");
  fs::remove(checkpoint / "rank-00001.safetensors");
  const std::string missing = (checkpoint / "rank-00001.safetensors").string() + ": is missing";
  expect_words(refused("step-00000004", folder / "hf"), missing);
  expect_words(refused("4", folder / "hf"), missing);
  expect_words(refused(checkpoint.string(), folder / "hf"), missing);
  expect_words(refused(checkpoint.string() + "/", folder / "hf"), missing);
  write_file_atomic(folder / "mine", "x");
  expect_words(refused("", folder / "mine"), "exists and is no export of gimbal");
  for (const char* list : {"{}", "[1]"}) {
    write_file_atomic(folder / "run/stages.json", list);
    expect_words(refused("", folder / "hf"), "stages.json: is no list of the stages' names");
  }
}

TEST(ExportRun, FindsAPathInAnyStage) {
  const TempFolder folder;
  const Model model = make_model(kExportConfig, "test");
  make_folders(folder / "run");
  write_file_atomic(folder / "run/stages.json", "[\"one\", \"two\", \"three\"]");
  const fs::path first = save_model(folder / "run/one", parameters_of(model));
  save_model(folder / "run/two", parameters_of(model));
  const auto missing_in = [&](const std::string& checkpoint) {
    return message_of<UserError>([&] { export_run(folder / "run", checkpoint, folder / "hf"); });
  };
  // The recipe of the stage is asked for, and there is none here.
  const auto expect_stage = [&](const std::string& checkpoint, const std::string& stage) {
    const std::string recipe = (folder / "run" / stage / "recipe.yaml").string();
    const std::string message = missing_in(checkpoint);
    EXPECT_NE(message.find(recipe), std::string::npos) << message;
  };
  expect_stage("", "two");
  expect_stage("4", "two");
  expect_stage(first.string(), "one");
}

}  // namespace
}  // namespace gimbal
