#include "gimbal/train/data/run_patterns.h"

#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/balance/real_lengths.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

class RunPatterns : public ::testing::Test {
 protected:
  RunPatterns()
      : comm_(make_world_comm(LaunchInfo{}, at::Device(at::kCPU), std::chrono::seconds(10))) {}

  static SamplerOptions options_for(std::vector<std::uint64_t> caps) {
    SamplerOptions options;
    options.caps.rows = std::move(caps);
    options.costs.resize(2);
    options.pattern_options.max_rounds = 4;
    options.pattern_options.compare = false;
    return options;
  }
  // Of the first `samples` of the real lengths.
  std::shared_ptr<const PatternSet> patterns(std::size_t samples, bool goes_on,
                                             std::vector<std::uint64_t> caps = {16, 4096}) {
    const SampleSizes sizes{std::span(lengths_.rows).first(2 * samples), 2};
    return patterns_of_run(sizes, options_for(std::move(caps)), folder_.path(), goes_on, *comm_);
  }
  std::filesystem::path file() const { return folder_.path() / "patterns.json"; }

  testing::TempFolder folder_;
  testing::RealLengths lengths_ = testing::real_lengths();
  std::unique_ptr<Comm> comm_;
};

TEST_F(RunPatterns, AreKeptForARunThatGoesOn) {
  const auto solved = patterns(40000, false);
  ASSERT_FALSE(solved->empty());
  ASSERT_TRUE(std::filesystem::exists(file()));
  // Those of other samples under the same caps stay in use when the run goes on, ...
  EXPECT_EQ(patterns(39000, true)->fingerprint(), solved->fingerprint());
  // ... and are solved anew when it begins.
  EXPECT_NE(patterns(39000, false)->fingerprint(), solved->fingerprint());
  // Those of other caps are of no use.
  EXPECT_EQ(patterns(39000, true, {15, 4384})->caps, (std::vector<std::uint64_t>{15, 4384}));
}

TEST_F(RunPatterns, FewSamplesHaveNone) {
  write_file_atomic(file(), "of a run before");
  EXPECT_TRUE(patterns(100, false)->empty());
  // That there are none is kept too.
  EXPECT_TRUE(load_patterns(file()).empty());
}

TEST_F(RunPatterns, OtherMethodsHaveNone) {
  SamplerOptions options = options_for({16, 4096});
  options.method = PackMethod::kIsf;
  const auto none = patterns_of_run(lengths_.sizes(), options, folder_.path(), false, *comm_);
  EXPECT_TRUE(none->empty());
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(RunPatterns, ADamagedFileIsNamed) {
  write_file_atomic(file(), "no patterns");
  const std::string message = testing::message_of<UserError>([&] { patterns(100, true); });
  EXPECT_NE(message.find(file().string()), std::string::npos) << message;
}

}  // namespace
}  // namespace gimbal
