#include "gimbal/train/report/summary.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

RunSummary summary_with_rejected(std::size_t count) {
  RunSummary summary;
  summary.peak_flops = 1;
  summary.balance.samples_in = 100;
  summary.balance.samples_packed = 100 - count;
  summary.balance.samples_rejected = count;
  for (std::size_t i = 0; i < count; ++i)
    summary.rejected.push_back("sample " + std::to_string(i) + ": 500 tokens, cap 192");
  return summary;
}

TEST(RunSummary, ListsTheFirstRejectedSamples) {
  const RunSummary summary = summary_with_rejected(12);
  const std::string text = to_text(summary);
  EXPECT_NE(text.find("left out 12 samples above a cap:"), std::string::npos) << text;
  EXPECT_NE(text.find("sample 9: 500 tokens, cap 192"), std::string::npos) << text;
  EXPECT_EQ(text.find("sample 10:"), std::string::npos) << text;
  EXPECT_NE(text.find("and 2 more"), std::string::npos) << text;
  const Json json = to_json(summary);
  EXPECT_EQ(json.at("samples_rejected"), 12);
  EXPECT_EQ(json.at("rejected").size(), 10U);
  EXPECT_EQ(json.at("rejected")[0], "sample 0: 500 tokens, cap 192");
}

TEST(RunSummary, SaysNothingOfRejectedSamplesWhenThereAreNone) {
  EXPECT_EQ(to_text(summary_with_rejected(0)).find("left out"), std::string::npos);
  EXPECT_TRUE(to_json(summary_with_rejected(0)).at("rejected").empty());
}

TEST(RunSummary, OneSampleIsNoSamples) {
  RunSummary summary = summary_with_rejected(1);
  summary.samples = summary.media = 1;
  const std::string text = to_text(summary);
  EXPECT_NE(text.find("left out 1 sample above a cap:"), std::string::npos) << text;
  EXPECT_NE(text.find(": 1 sample, 0 tokens, 1 picture\n"), std::string::npos) << text;
}

TEST(RunSummary, SaysInTheUnitsOfTheSystemWhetherItFits) {
  constexpr double kGibi = 1 << 30;
  RunSummary summary = summary_with_rejected(0);
  summary.fit.memory.activation_bytes = 0.5 * kGibi;
  summary.fit.program_bytes = kGibi;
  summary.fit.machine_bytes = 15.6 * kGibi;
  summary.program_bytes = 1 << 30;
  const std::string text = to_text(summary);
  EXPECT_NE(text.find("\nmemory   about 512.0 MiB per process: "), std::string::npos) << text;
  EXPECT_NE(text.find("; the program holds 1.00 GiB before the first step\n"
                      "fit      yes: needs about 1.50 GiB of 15.6 GiB for the largest "),
            std::string::npos)
      << text;
}

TEST(RunSummary, StagesAreInTheOrderOfTheModelWithTheirRanks) {
  RunSummary summary = summary_with_rejected(0);
  const RankFacts first{"host", "pp 0", {"vision.embed .. vision.1", "text.0 .. text.1"}, 0};
  const RankFacts second{"host", "pp 1", {"projector .. text.embed", "text.norm .. text.head"}, 0};
  summary.rank_facts = {first, first, second, second};  // two data ranks
  const std::string text = to_text(summary);
  EXPECT_NE(text.find("stage    0 on pp 0: vision.embed .. vision.1\n"
                      "stage    1 on pp 1: projector .. text.embed\n"
                      "stage    2 on pp 0: text.0 .. text.1\n"
                      "stage    3 on pp 1: text.norm .. text.head\n"),
            std::string::npos)
      << text;
  summary.rank_facts = {first, first};
  EXPECT_EQ(to_text(summary).find("stage  "), std::string::npos) << "no pipeline";
}

}  // namespace
}  // namespace gimbal
