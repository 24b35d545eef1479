#include "gimbal/train/layout/step_warnings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gimbal {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StepWarnings : public ::testing::Test {
 protected:
  std::vector<std::string> warnings(std::int64_t packs, bool planned = false) {
    balance.packs_per_step = packs;
    return step_warnings(balance, layout, planned);
  }

  BalanceConfig balance;
  RunLayout layout;
};

TEST_F(StepWarnings, DataRanksWithoutAPackAreCounted) {
  EXPECT_THAT(warnings(1), IsEmpty());
  layout.mesh = {.dp_replicate = 2, .dp_shard = 2};
  EXPECT_THAT(warnings(1), ElementsAre(AllOf(HasSubstr("a step has 1 pack (balance.packs_per_step) "
                                                       "for 4 data ranks"),
                                             HasSubstr("3 of them always idle"),
                                             HasSubstr("Set balance.packs_per_step=4 "))));
  EXPECT_THAT(warnings(3), ElementsAre(HasSubstr("1 of them always idle")));
  EXPECT_THAT(warnings(4), IsEmpty());
  balance.packs_per_slot = 3;
  EXPECT_THAT(warnings(3), ElementsAre(HasSubstr("balance.packs_per_step=12 ")));
}

TEST_F(StepWarnings, AShortPipelineIsNamedWithAStepThatFillsIt) {
  layout.mesh = {.pp = 4, .dp_shard = 2};
  EXPECT_THAT(warnings(4), ElementsAre(AllOf(HasSubstr("a pipeline of 4 ranks runs 2 micro-batches "
                                                       "of each data rank"),
                                             HasSubstr("idles for about 60 %"),
                                             HasSubstr("Set balance.packs_per_step=16 "))));
  EXPECT_THAT(warnings(8), ElementsAre(HasSubstr("about 43 %")));
  EXPECT_THAT(warnings(10), IsEmpty()) << "3 / 8";
  EXPECT_THAT(warnings(4, true), ElementsAre(HasSubstr("Plan again with --packs-per-step 16.")));
  EXPECT_THAT(warnings(1), ElementsAre(HasSubstr("1 of them always idle. Set "
                                                 "balance.packs_per_step=16 "),
                                       HasSubstr("runs 1 micro-batch of each")));
  balance.micro_batches = 3;  // of each pack
  EXPECT_THAT(warnings(2), ElementsAre(HasSubstr("balance.packs_per_step=6 ")));
  EXPECT_THAT(warnings(4), IsEmpty());
  balance.micro_batches = 0;  // as many as samples
  EXPECT_THAT(warnings(2), IsEmpty());
}

TEST_F(StepWarnings, SchedulesIdleDifferently) {
  layout.mesh = {.pp = 4};
  layout.schedule = PipelineKind::kZeroBubble;
  EXPECT_THAT(warnings(4), IsEmpty()) << "1 / 5";
  EXPECT_THAT(warnings(3), SizeIs(1)) << "fewer than ranks";
  layout.schedule = PipelineKind::kInterleaved;
  layout.stages_per_rank = 2;
  EXPECT_THAT(warnings(4), IsEmpty()) << "1.5 / 5.5";
}

}  // namespace
}  // namespace gimbal
