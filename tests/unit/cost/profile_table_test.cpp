#include "gimbal/cost/profile_table.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <functional>

#include "gimbal/base/file.h"
#include "unit/balance/check_cases.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using testing::between;
using testing::check_cases;
using ::testing::HasSubstr;

// Numbers of all sizes whose digits do not end.
double any_number() { return (*between(0, 1000000) / 7.0) * std::pow(10.0, *between(-15, 15)); }

CostLine any_line() { return {any_number(), any_number(), any_number()}; }

BlockCost any_block() {
  BlockCost block;
  for (CostLine* line : {&block.forward, &block.backward_input, &block.backward_weight,
                         &block.forward_workspace, &block.output})
    *line = any_line();
  for (std::size_t level = 0; level < kNumRecomputeLevels; ++level) {
    block.recompute[level] = any_line();
    block.saved[level] = any_line();
    block.backward_workspace[level] = any_line();
  }
  block.residual = any_number();
  return block;
}

ProfileTable any_table() {
  ProfileTable table;
  table.origin = *between(0, 2) == 0 ? "measured" : "analytic";
  table.hardware = "machine \"7\"";
  table.dtype = "bfloat16";
  table.model_type = "internvl_chat";
  table.model_fingerprint = "ab12";
  table.memory_bytes = any_number();
  table.reserved_bytes = any_number();
  table.peak_flops = any_number();
  table.value_bytes = *between(1, 9);
  table.optimizer_per_parameter = any_number();
  table.step_overhead = any_number();
  table.links = {.inside_node = {any_number(), any_number()},
                 .between_nodes = {any_number(), any_number()},
                 .devices_per_node = *between(1, 100)};
  for (const char* name : {"vision_layer", "text_layer", "text_head"})
    if (*between(0, 3) > 0) table.blocks[name] = any_block();
  table.notes = {"one", "zwei \u00e4"};
  return table;
}

void expect_equal_blocks(const BlockCost& a, const BlockCost& b) {
  RC_ASSERT(a.forward == b.forward && a.backward_input == b.backward_input &&
            a.backward_weight == b.backward_weight && a.recompute == b.recompute &&
            a.saved == b.saved && a.forward_workspace == b.forward_workspace &&
            a.backward_workspace == b.backward_workspace && a.output == b.output &&
            a.residual == b.residual);
}

TEST(ProfileTable, ComesBackExactlyFromJson) {
  check_cases(100, [] {
    const ProfileTable a = any_table();
    const ProfileTable b = profile_from_json(Json::parse(to_json(a).dump()), "p.json");
    RC_ASSERT(a.origin == b.origin && a.hardware == b.hardware && a.dtype == b.dtype);
    RC_ASSERT(a.model_type == b.model_type && a.model_fingerprint == b.model_fingerprint);
    RC_ASSERT(a.memory_bytes == b.memory_bytes && a.reserved_bytes == b.reserved_bytes);
    RC_ASSERT(a.peak_flops == b.peak_flops && a.value_bytes == b.value_bytes);
    RC_ASSERT(a.optimizer_per_parameter == b.optimizer_per_parameter);
    RC_ASSERT(a.step_overhead == b.step_overhead && a.notes == b.notes);
    RC_ASSERT(a.links.devices_per_node == b.links.devices_per_node);
    RC_ASSERT(a.links.inside_node.latency == b.links.inside_node.latency);
    RC_ASSERT(a.links.inside_node.bytes_per_second == b.links.inside_node.bytes_per_second);
    RC_ASSERT(a.links.between_nodes.latency == b.links.between_nodes.latency);
    RC_ASSERT(a.links.between_nodes.bytes_per_second == b.links.between_nodes.bytes_per_second);
    RC_ASSERT(a.blocks.size() == b.blocks.size());
    for (const auto& [name, block] : a.blocks) expect_equal_blocks(block, b.block(name));
  });
}

ProfileTable small_table() {
  ProfileTable table;
  table.origin = "measured";
  table.hardware = "box";
  table.dtype = "float32";
  table.blocks["text_layer"].forward = {1e-5, 2e-7, 3e-11};
  return table;
}

TEST(ProfileTable, ComesBackFromAFile) {
  const auto file = std::filesystem::temp_directory_path() / "gimbal_profile_table_test.json";
  save_profile(small_table(), file);
  EXPECT_EQ(to_json(load_profile(file)), to_json(small_table()));
  std::filesystem::remove(file);
  EXPECT_THROW(load_profile(file), UserError);
}

std::string error_of(const std::function<void(Json&)>& change) {
  Json json = Json::parse(to_json(small_table()).dump());
  change(json);
  try {
    profile_from_json(json, "p.json");
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

TEST(ProfileTable, NamesFileAndKeyOfWhatIsWrong) {
  const auto at = [](const char* key) { return AllOf(HasSubstr("p.json"), HasSubstr(key)); };
  EXPECT_THAT(error_of([](Json& j) { j.erase("dtype"); }), at("'dtype' is missing"));
  EXPECT_THAT(error_of([](Json& j) { j["dtype"] = 3; }), at("'dtype' has to be a text"));
  EXPECT_THAT(error_of([](Json& j) { j["hardwear"] = "x"; }), at("did you mean 'hardware'?"));
  EXPECT_THAT(error_of([](Json& j) { j["zzzzzzzz"] = 1; }), at("'zzzzzzzz' is unknown; valid"));
  EXPECT_THAT(error_of([](Json& j) { j["memory_bytes"] = "80 GB"; }), at("'memory_bytes'"));
  EXPECT_THAT(error_of([](Json& j) { j["memory_bytes"] = -1; }), at("'memory_bytes'"));
  EXPECT_THAT(error_of([](Json& j) { j["value_bytes"] = 1.5; }), at("'value_bytes'"));
  EXPECT_THAT(error_of([](Json& j) { j["value_bytes"] = 0; }), at("'value_bytes'"));
  EXPECT_THAT(error_of([](Json& j) { j["notes"] = {1, 2}; }), at("'notes'"));
  EXPECT_THAT(error_of([](Json& j) { j["origin"] = "guessed"; }), at("'origin' is 'guessed'"));
  EXPECT_THAT(error_of([](Json& j) { j["blocks"] = 1; }), at("'blocks' has to be an object"));
  EXPECT_THAT(error_of([](Json& j) { j["links"] = 1; }), at("'links' has to be an object"));
  EXPECT_THAT(error_of([](Json& j) { j["links"]["inside"] = 1; }), at("links.inside"));
  EXPECT_THAT(error_of([](Json& j) { j["links"]["inside_node"].erase("latency"); }),
              at("'links.inside_node.latency' is missing"));
  EXPECT_THAT(error_of([](Json& j) {
                j["blocks"]["text_layer"]["forward"] = {1, 2};
              }),
              at("'blocks.text_layer.forward' has to be a list of 3"));
  EXPECT_THAT(error_of([](Json& j) {
                j["blocks"]["text_layer"]["forward"] = {1, 2, -3};
              }),
              at("'blocks.text_layer.forward'"));
  EXPECT_THAT(error_of([](Json& j) { j["blocks"]["text_layer"]["saved"].erase("mlp"); }),
              at("'blocks.text_layer.saved.mlp' is missing"));
  EXPECT_THAT(error_of([](Json& j) {
                j["blocks"]["text_layer"]["saved"]["all"] = {1, 2, 3};
              }),
              at("'blocks.text_layer.saved.all' is unknown"));
}

TEST(ProfileTable, RefusesOtherFilesAndVersions) {
  EXPECT_THAT(error_of([](Json& j) { j.erase("format"); }), HasSubstr("gimbal profile"));
  EXPECT_THAT(error_of([](Json& j) { j = Json::array(); }), HasSubstr("this is no profile"));
  EXPECT_THAT(error_of([](Json& j) { j["version"] = 99; }), HasSubstr("'version' is 99"));
}

TEST(ProfileTable, NamesTheClassesThatItHas) {
  ProfileTable table = small_table();
  table.blocks["vision_layer"] = {};
  EXPECT_EQ(table.block("text_layer").forward.per_row, 2e-7);
  try {
    table.block("projector");
    FAIL();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("'projector'"), HasSubstr("text_layer, vision_layer"),
                                HasSubstr("box")));
  }
}

}  // namespace
}  // namespace gimbal
