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

}  // namespace
}  // namespace gimbal
