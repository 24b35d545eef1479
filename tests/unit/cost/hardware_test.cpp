#include "gimbal/cost/hardware.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "gimbal/base/file.h"
#include "gimbal/cost/hardware_file.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Hardware, KnowsTheMachinesOfTheManual) {
  for (const char* name :
       {"a100-40g", "a100-80g", "a800-80g", "h100-80g", "h200-141g", "b200-192g", "rtx4090-24g"}) {
    const Hardware hardware = find_hardware(name);
    EXPECT_EQ(hardware.name, name);
    EXPECT_GT(hardware.peak_flops.at("bfloat16"), hardware.peak_flops.at("float32"));
    EXPECT_LT(hardware.reserved_bytes, hardware.memory_bytes);
    EXPECT_GT(hardware.links.inside_node.bytes_per_second,
              hardware.links.between_nodes.bytes_per_second);
    EXPECT_FALSE(hardware.notes.empty());
    EXPECT_EQ(hardware.efficiency.size(), 5u);
  }
  // An A800 is an A100 with less NVLink.
  const Hardware a800 = find_hardware("a800-80g"), a100 = find_hardware("a100-80g");
  EXPECT_DOUBLE_EQ(a800.links.inside_node.bytes_per_second * 1.5,
                   a100.links.inside_node.bytes_per_second);
  EXPECT_EQ(a800.peak_flops, a100.peak_flops);
}

TEST(Hardware, MemoryIsAboutWhatSystemsShow) {
  constexpr double kGiB = 1 << 30;
  const std::map<std::string, double> all_shown{
      {"a100-80g", 80.0}, {"h100-80g", 79.6}, {"h200-141g", 140.4}, {"b200-192g", 179.0}};
  for (const auto& [name, shown] : all_shown)
    EXPECT_NEAR(find_hardware(name).memory_bytes / kGiB, shown, 0.01 * shown) << name;
}

TEST(Hardware, SuggestsTheNearestName) {
  EXPECT_THAT(error_of([] { find_hardware("a100-80gb"); }),
              AllOf(HasSubstr("did you mean 'a100-80g'?"), HasSubstr("h200-141g")));
  EXPECT_THAT(error_of([] { find_hardware("abacus"); }), HasSubstr("unknown hardware 'abacus'"));
}

Json machine_json() { return Json::parse(to_json(find_hardware("h100-80g")).dump()); }

TEST(Hardware, ComesBackFromJson) {
  const Hardware hardware = hardware_from_json(machine_json(), "m.json");
  EXPECT_EQ(to_json(hardware), to_json(find_hardware("h100-80g")));
}

TEST(Hardware, FileNeedsLittleAndSaysWhatItTookFromElsewhere) {
  Json json = machine_json();
  for (const char* key :
       {"reserved_bytes", "efficiency", "launch_seconds", "step_overhead", "notes"})
    json.erase(key);
  json["peak_flops"].erase("float32");
  const Hardware hardware = hardware_from_json(json, "m.json");
  EXPECT_EQ(hardware.efficiency, find_hardware("a100-80g").efficiency);
  EXPECT_EQ(hardware.peak_flops.size(), 1u);
  ASSERT_EQ(hardware.notes.size(), 1u);
  EXPECT_THAT(hardware.notes[0], HasSubstr("A100"));
  json["efficiency"] = {{"head", 0.9}};
  EXPECT_EQ(hardware_from_json(json, "m.json").efficiency.at("head"), 0.9);
  EXPECT_EQ(hardware_from_json(json, "m.json").efficiency.at("text_products"), 0.7);
}

TEST(Hardware, FileHoldsOneMachineOrAListOfOne) {
  const auto file = std::filesystem::temp_directory_path() / "gimbal_hardware_test.json";
  Json json = machine_json();
  json["name"] = "mine";
  write_file_atomic(file, json.dump());
  EXPECT_EQ(find_hardware(file.string()).name, "mine");
  write_file_atomic(file, Json::array({json}).dump());
  EXPECT_EQ(find_hardware(file.string()).name, "mine");
  write_file_atomic(file, Json::array({json, json}).dump());
  EXPECT_THAT(error_of([&] { find_hardware(file.string()); }),
              AllOf(HasSubstr(file.string()), HasSubstr("2 machines")));
  std::filesystem::remove(file);
  EXPECT_THAT(error_of([&] { find_hardware(file.string()); }), HasSubstr(file.string()));
}

TEST(Hardware, FileErrorsNameTheKey) {
  const auto error_with = [](const std::function<void(Json&)>& change) {
    Json json = machine_json();
    change(json);
    return error_of([&] { hardware_from_json(json, "m.json"); });
  };
  EXPECT_THAT(error_with([](Json& j) { j.erase("name"); }),
              HasSubstr("m.json: key 'name' is missing"));
  EXPECT_THAT(error_with([](Json& j) { j["memory_bandwith"] = 1; }),
              HasSubstr("did you mean 'memory_bandwidth'?"));
  EXPECT_THAT(error_with([](Json& j) { j["memory_bandwidth"] = 0; }), HasSubstr("above 0"));
  EXPECT_THAT(error_with([](Json& j) { j["peak_flops"] = Json::object(); }),
              HasSubstr("'peak_flops' has no dtype"));
  EXPECT_THAT(error_with([](Json& j) { j["peak_flops"]["fp8"] = 1; }),
              HasSubstr("'peak_flops.fp8' is unknown"));
  EXPECT_THAT(error_with([](Json& j) { j["peak_flops"]["bfloat16"] = "fast"; }),
              HasSubstr("'peak_flops.bfloat16' has to be a number"));
  EXPECT_THAT(error_with([](Json& j) { j["efficiency"]["head"] = 1.5; }),
              HasSubstr("'efficiency.head' is a share"));
  EXPECT_THAT(error_with([](Json& j) { j["reserved_bytes"] = 1e12; }),
              HasSubstr("'reserved_bytes'"));
  EXPECT_THAT(error_with([](Json& j) { j["links"]["devices_per_node"] = 0; }),
              HasSubstr("'links.devices_per_node'"));
  EXPECT_THAT(error_with([](Json& j) { j = 3; }),
              HasSubstr("m.json: the file has to be an object"));
}

}  // namespace
}  // namespace gimbal
