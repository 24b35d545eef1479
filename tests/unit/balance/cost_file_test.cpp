#include "gimbal/balance/costs/cost_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/temp_folder.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

using testing::message_of;
using testing::TempFolder;

const std::vector<std::string> kStreams{"vision", "tokens"};

std::filesystem::path write_json(const TempFolder& folder, const std::string& text) {
  const auto path = folder / "costs.json";
  std::ofstream(path) << text;
  return path;
}

TEST(CostFile, GivesTheStreamsInTheAskedOrder) {
  const TempFolder folder;
  const auto file = write_json(folder, R"({"streams": {
      "tokens": {"per_row": 1.5, "per_pair": 1e-5}, "audio": {"per_row": 9},
      "vision": {"per_row": 300}}, "device": "cpu"})");
  const auto costs = read_cost_file(file, kStreams);
  ASSERT_EQ(costs.size(), 2U);
  EXPECT_EQ(costs[0].per_row, 300);
  EXPECT_EQ(costs[0].per_pair, 0);
  EXPECT_EQ(costs[1].per_row, 1.5);
  EXPECT_EQ(costs[1].per_pair, 1e-5);
  EXPECT_TRUE(read_cost_file(file, {}).empty());
}

TEST(CostFile, NamesWhatIsWrong) {
  const TempFolder folder;
  const auto message = [&](const std::string& text) {
    const auto file = write_json(folder, text);
    return message_of<UserError>([&] { read_cost_file(file, kStreams); });
  };
  const auto with_vision = [&](const std::string& vision) {
    return message(R"({"streams": {"tokens": {"per_row": 1}, "vision": )" + vision + "}}");
  };
  EXPECT_NE(message("{").find("not valid JSON"), std::string::npos);
  EXPECT_NE(message("[]").find("'streams' is missing"), std::string::npos);
  EXPECT_NE(message(R"({"streams": []})").find("'streams' is missing"), std::string::npos);
  EXPECT_NE(message(R"({"streams": {}})").find("the file has: none"), std::string::npos);
  EXPECT_NE(message(R"({"streams": {"tokens": {"per_row": 1}}})")
                .find("no cost for the stream 'vision'; the file has: tokens"),
            std::string::npos);
  EXPECT_NE(with_vision("5").find("stream 'vision' must be an object"), std::string::npos);
  EXPECT_NE(with_vision("{}").find("'per_row' is missing"), std::string::npos);
  EXPECT_NE(with_vision(R"({"per_row": 1, "per_pairs": 1})").find("unknown key 'per_pairs'"),
            std::string::npos);
  EXPECT_NE(with_vision(R"({"per_row": "1"})").find("must be a number"), std::string::npos);
  EXPECT_NE(with_vision(R"({"per_row": true})").find("must be a number"), std::string::npos);
  EXPECT_NE(with_vision(R"({"per_row": -1})").find("at least 0"), std::string::npos);
  EXPECT_NE(with_vision(R"({"per_row": 1, "per_pair": null})").find("'per_pair'"),
            std::string::npos);
  EXPECT_THROW(read_cost_file(folder / "none.json", kStreams), UserError);
}

TEST(DefaultCosts, WeighFullStreamsAlike) {
  const std::vector<std::uint32_t> rows{4, 1000, 8, 1000};
  const SampleSizes sizes{rows, 2, {}, kStreams};
  PackCaps caps;
  caps.rows = {16, 4000};
  const auto costs = default_costs(caps, sizes);
  EXPECT_EQ(costs[0].per_row, 1.0 / 16);
  EXPECT_EQ(costs[1].per_row, 1.0 / 4000);
  EXPECT_EQ(costs[0].per_pair, 0);

  // No cap on vision: four samples fill the tokens, and bring 24 tiles.
  caps.rows = {0, 4000};
  EXPECT_EQ(default_costs(caps, sizes)[0].per_row, 1.0 / 24);
  caps.rows = {};
  caps.samples = 2;
  EXPECT_EQ(default_costs(caps, sizes)[0].per_row, 1.0 / 12);
  EXPECT_EQ(default_costs(caps, sizes)[1].per_row, 1.0 / 2000);
}

TEST(DefaultCosts, TakeEdgeCases) {
  PackCaps caps;
  caps.rows = {0, 10};
  EXPECT_EQ(default_costs(caps, {{}, 2})[0].per_row, 1);  // no samples
  EXPECT_EQ(default_costs(caps, {{}, 2})[1].per_row, 0.1);
  const std::vector<std::uint32_t> blind{0, 5};
  EXPECT_EQ(default_costs(caps, {blind, 2})[0].per_row, 1);  // no rows
  EXPECT_EQ(default_costs({}, {blind, 2})[1].per_row, 1);    // no caps
  caps.cost = 3;
  EXPECT_NE(message_of<UserError>([&] {
              default_costs(caps, {blind, 2});
            }).find("cap on cost"),
            std::string::npos);
}

}  // namespace
}  // namespace gimbal
