#include "gimbal/train/report/metrics.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/train/report/progress.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

TEST(MetricsWriter, ResumeDropsLaterStepsAndBrokenLines) {
  const testing::TempFolder folder;
  const auto path = folder.path() / "metrics.jsonl";
  write_file_atomic(path,
                    "{\"kind\":\"summary\"}\n{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st");
  MetricsWriter writer(path, 2);
  writer.write({{"step", 3}, {"again", true}});
  EXPECT_EQ(read_file(path),
            "{\"kind\":\"summary\"}\n{\"step\":1}\n{\"step\":2}\n{\"again\":true,\"step\":3}\n");
}

TEST(MetricsWriter, ALogThatEndsBeforeTheResumeStepHasAGap) {
  const testing::TempFolder folder;
  const auto path = folder.path() / "samples.jsonl";
  EXPECT_EQ(MetricsWriter(path, 3).gap(), "") << "there was none";
  EXPECT_EQ(MetricsWriter(path, 3).gap(),
            concat("'", path.string(),
                   "' has no step, and the run goes on after step 3: the lines between are lost"));
  write_file_atomic(path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
  EXPECT_EQ(MetricsWriter(path, 3).gap(), "");
  EXPECT_EQ(MetricsWriter(path, 2).gap(), "");
  EXPECT_EQ(MetricsWriter(path, 4).gap(),
            concat("'", path.string(),
                   "' ends with step 2, and the run goes on after step 4: the lines between are "
                   "lost"));
  EXPECT_EQ(MetricsWriter(path, 0).gap(), "") << "a run from its begin";
  EXPECT_EQ(read_file(path), "");
}

TEST(SamplesLine, NamesTheSamplesOfEachDataRankAndMicroBatch) {
  StepPlan plan;
  plan.position = {2, 5};
  plan.all_micro_batches = {{{7, 1}, {3}}, {{4}, {}}};
  EXPECT_EQ(samples_line(31, plan).dump(),
            "{\"epoch\":2,\"samples\":[[[7,1],[3]],[[4],[]]],\"step\":31,\"step_in_epoch\":5}");
}

TEST(MetricsWriter, FolderThatDoesNotExistIsAnError) {
  EXPECT_THROW(MetricsWriter("/nowhere/at/all/metrics.jsonl", 0), UserError);
}

TEST(Format, CountsDurationsQuantities) {
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(1234567), "1,234,567");
  EXPECT_EQ(format_duration(75), "1:15");
  EXPECT_EQ(format_duration(3675), "1:01:15");
  EXPECT_EQ(format_quantity(1.5e9), "1.5 G");
  EXPECT_EQ(format_quantity(12), "12 ");
}

}  // namespace
}  // namespace gimbal
