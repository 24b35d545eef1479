#include "gimbal/balance/screen.h"

#include "unit/balance/pack_cases.h"

namespace gimbal {
namespace {

using testing::message_of;

const std::vector<std::string> kScreenNames{"vision", "tokens"};

SampleSizes named(const std::vector<std::uint32_t>& rows) { return {rows, 2, {}, kScreenNames}; }

TEST(ScreenSamples, AllFittingIsNothingToReport) {
  const std::vector<std::uint32_t> rows{1, 3, 8, 64};
  for (const auto policy :
       {OversizePolicy::kError, OversizePolicy::kReject, OversizePolicy::kAlone}) {
    const PackLimits limits(named(rows), {{8, 64}}, {});
    const Screening screening = screen_samples(limits, policy);
    EXPECT_TRUE(screening.rejected.empty());
    EXPECT_TRUE(screening.oversize.empty());
    EXPECT_TRUE(screening.fate.empty());
  }
}

TEST(ScreenSamples, NoSamplesIsNothingToReport) {
  const PackLimits limits(SampleSizes{{}, 2, {}, kScreenNames}, {{8, 64}}, {});
  EXPECT_TRUE(screen_samples(limits, OversizePolicy::kError).fate.empty());
}

TEST(ScreenSamples, ErrorListsEachWithItsCaps) {
  const std::vector<std::uint32_t> rows{1, 3, 9, 3, 1, 70, 10, 99};
  const PackLimits limits(named(rows), {{8, 64}}, {});
  const std::string message =
      message_of<UserError>([&] { screen_samples(limits, OversizePolicy::kError); });
  EXPECT_EQ(message,
            "balance: 3 samples do not fit into a pack alone. Raise the cap (balance.text_cap, "
            "balance.vision_cap or --cap), leave them out "
            "(balance.oversize = \"reject\" in a recipe, --oversize reject on the command line, "
            "oversize=\"reject\" in Python), or give each a pack of its own (\"alone\" in place of "
            "\"reject\"):\n"
            "  sample 1: 9 vision, cap 8\n"
            "  sample 2: 70 tokens, cap 64\n"
            "  sample 3: 10 vision, cap 8; 99 tokens, cap 64");
}

TEST(ScreenSamples, ErrorOfOneSampleIsInTheSingular) {
  const std::vector<std::uint32_t> rows{9, 3};
  const PackLimits limits(named(rows), {{8, 64}}, {});
  const std::string message =
      message_of<UserError>([&] { screen_samples(limits, OversizePolicy::kError); });
  EXPECT_NE(message.find("1 sample does not fit"), std::string::npos) << message;
  EXPECT_NE(message.find("leave it out"), std::string::npos) << message;
}

TEST(ScreenSamples, ErrorListsTenAndTheirNumber) {
  const std::vector<std::uint32_t> rows(50, 9);
  const PackLimits limits(named(rows), {{8, 64}}, {});
  const std::string message = message_of<UserError>([&] {
    screen_samples(limits, OversizePolicy::kError,
                   [](std::uint32_t sample) { return concat("a.csv:", sample + 2); });
  });
  EXPECT_NE(message.find("25 samples"), std::string::npos) << message;
  EXPECT_NE(message.find("\n  a.csv:11: 9 vision, cap 8\n  and 15 more"), std::string::npos)
      << message;
  EXPECT_EQ(message.find("a.csv:12:"), std::string::npos) << message;
}

TEST(ScreenSamples, RejectReportsAndGoesOn) {
  const std::vector<std::uint32_t> rows{9, 3, 1, 3, 8, 65};
  const PackLimits limits(named(rows), {{8, 64}}, {});
  const Screening screening = screen_samples(limits, OversizePolicy::kReject);
  ASSERT_EQ(screening.rejected.size(), 2U);
  EXPECT_EQ(screening.rejected[0].sample, 0U);
  EXPECT_EQ(screening.rejected[0].reason, "9 vision, cap 8");
  EXPECT_EQ(screening.rejected[1].sample, 2U);
  EXPECT_EQ(screening.rejected[1].reason, "65 tokens, cap 64");
  EXPECT_TRUE(screening.oversize.empty());
  EXPECT_EQ(screening.fate, (std::vector<std::uint8_t>{1, 0, 1}));
}

TEST(ScreenSamples, AloneMarksThem) {
  const std::vector<std::uint32_t> rows{9, 3, 1, 3};
  const PackLimits limits(named(rows), {{8, 64}}, {});
  const Screening screening = screen_samples(limits, OversizePolicy::kAlone);
  EXPECT_TRUE(screening.rejected.empty());
  ASSERT_EQ(screening.oversize.size(), 1U);
  EXPECT_EQ(screening.oversize[0].reason, "9 vision, cap 8");
  EXPECT_EQ(screening.fate, (std::vector<std::uint8_t>{2, 0}));
}

TEST(ScreenSamples, CostAloneCanReject) {
  const std::vector<std::uint32_t> rows{1, 100};
  const std::vector<StreamCost> costs{{1, 0}, {1, 1}};
  const PackLimits limits(named(rows), {{8, 128}, 0, 5000.0}, costs);
  const Screening screening = screen_samples(limits, OversizePolicy::kReject);
  ASSERT_EQ(screening.rejected.size(), 1U);
  EXPECT_EQ(screening.rejected[0].reason, "cost 10101, cap 5000");
}

TEST(ScreenSamples, FindsExactlyWhatDoesNotFit) {
  testing::check_cases(2000, [] {
    testing::PackCase drawn = testing::any_pack_case(0, 30);
    // Halved caps: some of the samples no longer fit.
    for (std::uint64_t& cap : drawn.caps.rows) cap = cap == 0 ? 0 : cap / 2 + 1;
    drawn.caps.cost /= 2;
    const PackLimits limits = drawn.limits();
    const std::size_t count = drawn.sizes().num_samples();
    const Screening screening = screen_samples(limits, OversizePolicy::kReject);
    std::vector<std::uint32_t> expected;
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::vector<std::uint32_t> alone{i};
      if (!testing::keeps_caps(limits, alone)) expected.push_back(i);
    }
    std::vector<std::uint32_t> found;
    for (const Rejection& rejection : screening.rejected) found.push_back(rejection.sample);
    RC_ASSERT(found == expected);
    RC_ASSERT(screening.fate.size() == (expected.empty() ? 0 : count));
  });
}

}  // namespace
}  // namespace gimbal
