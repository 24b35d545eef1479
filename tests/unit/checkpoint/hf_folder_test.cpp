#include "gimbal/checkpoint/hf_folder.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/json.h"
#include "gimbal/base/sha256.h"
#include "unit/base/names_in.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using testing::message_of;
using testing::names_in;
using testing::TempFolder;

const std::vector<TensorSpec> kSpecs{{"model.a.weight", at::kFloat, {2, 3}},
                                     {"model.b.weight", at::kFloat, {4}},
                                     {"model.c.weight", at::kBFloat16, {5}}};

at::Tensor values_of(std::size_t i) {
  return at::full(kSpecs[i].shape, static_cast<double>(i) + 0.5,
                  at::TensorOptions().dtype(kSpecs[i].dtype));
}

void make_origin(const fs::path& folder) {
  make_folders(folder);
  for (const char* name :
       {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "tokenizer.model",
        "other.model", "preprocessor_config.json", "processor_config.json",
        "video_preprocessor_config.json", "generation_config.json"}) {
    write_file_atomic(folder / name, std::string("content of ") + name);
  }
  write_file_atomic(folder / "pytorch_model.bin", "not carried");
  write_file_atomic(folder / "README.md", "not carried");
}

TEST(HfFolder, SavesOneFileAndCarriesTokenizerAndProcessor) {
  const TempFolder folder;
  make_origin(folder / "origin");
  save_hf_folder(folder / "out", folder / "origin", "{\"model_type\": \"x\"}\n", kSpecs, values_of,
                 1 << 20);
  std::set<std::string> expected = names_in(folder / "origin");
  expected.insert({"config.json", "model.safetensors"});
  expected.erase("pytorch_model.bin");
  expected.erase("README.md");
  EXPECT_EQ(names_in(folder / "out"), expected);
  EXPECT_EQ(read_file(folder / "out/other.model"), "content of other.model");
  EXPECT_EQ(read_json(folder / "out/config.json")["model_type"], "x");
  EXPECT_EQ(SafetensorsReader(folder / "out/model.safetensors").metadata().at("format"), "pt");
  EXPECT_EQ(tokenizer_sha256(folder / "out"), tokenizer_sha256(folder / "origin"));
  EXPECT_EQ(processor_sha256(folder / "out"), processor_sha256(folder / "origin"));
  const HfWeights weights(folder / "out");
  EXPECT_EQ(weights.names(),
            (std::vector<std::string>{"model.a.weight", "model.b.weight", "model.c.weight"}));
  for (std::size_t i = 0; i < kSpecs.size(); ++i)
    EXPECT_TRUE(at::equal(weights.tensor(kSpecs[i].name), values_of(i)));
}

TEST(HfFolder, SplitsIntoShardsWithAnIndex) {
  const TempFolder folder;
  make_origin(folder / "origin");
  save_hf_folder(folder / "out", folder / "origin", "{}", kSpecs, values_of,
                 20);  // 24, then 16, then 10 bytes
  const Json index = read_json(folder / "out/model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 24 + 16 + 10);
  EXPECT_EQ(index["weight_map"]["model.a.weight"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["model.b.weight"], "model-00002-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["model.c.weight"], "model-00003-of-00003.safetensors");
  EXPECT_FALSE(fs::exists(folder / "out/model.safetensors"));
  const HfWeights weights(folder / "out");
  for (std::size_t i = 0; i < kSpecs.size(); ++i)
    EXPECT_TRUE(at::equal(weights.tensor(kSpecs[i].name), values_of(i)));

  save_hf_folder(folder / "out", folder / "origin", "{}", kSpecs, values_of, 40);
  EXPECT_TRUE(fs::exists(folder / "out/model-00002-of-00002.safetensors"));
  EXPECT_FALSE(
      fs::exists(folder / "out/model-00003-of-00003.safetensors"));  // the old folder is replaced
}

TEST(HfFolder, AFailedSaveLeavesNothing) {
  const TempFolder folder;
  make_origin(folder / "origin");
  EXPECT_THROW(save_hf_folder(
                   folder / "out", folder / "origin", "{}", kSpecs,
                   [](std::size_t i) {
                     if (i == 1) throw UserError("stop");
                     return values_of(i);
                   },
                   1 << 20),
               UserError);
  const std::string message = message_of<UserError>(
      [&] { save_hf_folder(folder / "out", folder / "none", "{}", kSpecs, values_of, 1 << 20); });
  EXPECT_NE(message.find((folder / "none").string()), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_FALSE(fs::exists(folder / "out.partial"));
}

TEST(HfFolder, AFolderWithoutWeightsSaysWhatIsThere) {
  const TempFolder folder;
  write_file_atomic(folder / "pytorch_model.bin", "x");
  write_file_atomic(folder / "config.json", "{}");
  const std::string message = message_of<UserError>([&] { HfWeights weights(folder.path()); });
  EXPECT_NE(message.find("Expected model.safetensors"), std::string::npos) << message;
  EXPECT_NE(message.find("found config.json, pytorch_model.bin"), std::string::npos) << message;
  EXPECT_NE(message_of<UserError>([&] { HfWeights weights(folder / "none"); }).find("is no folder"),
            std::string::npos);
}

TEST(HfFolder, BrokenIndexesAreNamed) {
  const TempFolder folder;
  make_origin(folder / "origin");
  save_hf_folder(folder / "out", folder / "origin", "{}", kSpecs, values_of, 20);
  const fs::path index = folder / "out/model.safetensors.index.json";
  const Json good = read_json(index);
  const auto error_with = [&](const Json& json) {
    write_file_atomic(index, json.dump());
    return message_of<UserError>([&] { HfWeights weights(folder / "out"); });
  };
  EXPECT_NE(error_with(Json::object()).find("'weight_map' is missing"), std::string::npos);
  Json json = good;
  json["weight_map"]["model.a.weight"] = "../secret.safetensors";
  EXPECT_NE(error_with(json).find("no plain file name"), std::string::npos);
  json["weight_map"]["model.a.weight"] = "model-00009-of-00003.safetensors";
  EXPECT_NE(error_with(json).find("model-00009-of-00003.safetensors: is missing"),
            std::string::npos);
  json["weight_map"]["model.a.weight"] = "model-00002-of-00003.safetensors";
  EXPECT_NE(error_with(json).find("has no tensor 'model.a.weight', although"), std::string::npos);
}

TEST(FindWeight, TakesTheNameOrAnAliasAndChecksTheShape) {
  const TempFolder folder;
  make_origin(folder / "origin");
  save_hf_folder(folder / "out", folder / "origin", "{}", kSpecs, values_of, 1 << 20);
  const HfWeights weights(folder / "out");
  EXPECT_TRUE(at::equal(find_weight(weights, "model.b.weight", {}, {4}, "F"), values_of(1)));
  EXPECT_TRUE(
      at::equal(find_weight(weights, "new.b", {"x", "model.b.weight"}, {4}, "F"), values_of(1)));

  const std::string missing = message_of<UserError>(
      [&] { find_weight(weights, "model.b.wieght", {"old.name"}, {4}, "FOLDER"); });
  EXPECT_NE(
      missing.find("FOLDER: has no weight 'model.b.wieght' (nor 'old.name') among its 3 tensors"),
      std::string::npos)
      << missing;
  EXPECT_NE(missing.find("The nearest name is 'model.b.weight'"), std::string::npos) << missing;
  EXPECT_NE(message_of<UserError>([&] {
              find_weight(weights, "zzzzzzzzzzzz", {}, {4}, "F");
            }).find("No other name is near"),
            std::string::npos);

  const std::string shape = message_of<UserError>([&] {
    find_weight(weights, "model.a.weight", {}, {3, 2}, "FOLDER");
  });
  EXPECT_NE(shape.find("weight 'model.a.weight' has the shape [2, 3], config.json asks for [3, 2]"),
            std::string::npos)
      << shape;
  EXPECT_NE(message_of<UserError>([&] { weights.tensor("w"); }).find("has no tensor 'w'"),
            std::string::npos);
}

TEST(FindWeight, QuantizedWeightsAreRefused) {
  const TempFolder folder;
  make_folders(folder / "origin");
  save_hf_folder(
      folder / "out", folder / "origin", "{}", {{"w", at::kChar, {2}}},
      [](std::size_t) { return at::arange(2, at::kChar); }, 1 << 20);
  const HfWeights weights(folder / "out");
  const std::string message =
      message_of<UserError>([&] { find_weight(weights, "w", {}, {2}, "F"); });
  EXPECT_NE(message.find("weight 'w' holds I8"), std::string::npos) << message;
}

TEST(Fingerprints, AreOfNamesAndContents) {
  const TempFolder folder;
  write_file_atomic(folder / "vocab.json", "{}");
  write_file_atomic(folder / "merges.txt", "a b");
  write_file_atomic(folder / "processor_config.json", "1");
  const std::string zero(1, '\0');
  EXPECT_EQ(tokenizer_sha256(folder.path()),
            sha256_of("merges.txt" + zero + "a b" + "vocab.json" + zero + "{}"));
  EXPECT_EQ(processor_sha256(folder.path()), sha256_of("processor_config.json" + zero + "1"));
  write_file_atomic(folder / "chat_template.jinja", "x");
  EXPECT_NE(tokenizer_sha256(folder.path()),
            sha256_of("merges.txt" + zero + "a b" + "vocab.json" + zero + "{}"));
}

}  // namespace
}  // namespace gimbal
