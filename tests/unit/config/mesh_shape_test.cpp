#include "gimbal/config/mesh_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "gimbal/base/error.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::gimbal::testing::message_of;
using ::testing::HasSubstr;

TEST(MeshShape, SaysTheAxesAboveOne) {
  EXPECT_EQ(to_string(MeshShape{}), "1 device");
  EXPECT_EQ(to_string(MeshShape{.pp = 4, .dp_shard = 8, .tp = 2}), "pp 4, dp_shard 8, tp 2");
}

TEST(MeshOfProcesses, ReplicasAreWhatIsLeft) {
  ParallelConfig config;
  config.pp = 2;
  config.sp = 3;
  EXPECT_EQ(mesh_of_processes(config, 12), (MeshShape{.pp = 2, .dp_replicate = 2, .sp = 3}));
  EXPECT_THAT(
      message_of<UserError>([&] { mesh_of_processes(config, 8); }),
      HasSubstr("is 6, which does not divide the 8 processes of this run. Start 6 (--nproc 6) "
                "or a multiple of that, or change an axis."));
  config.dp_replicate = 1;
  EXPECT_THAT(message_of<UserError>([&] { mesh_of_processes(config, 12); }),
              HasSubstr("is 6 processes, but this run has 12. Start it with --nproc 6"));
}

TEST(MeshOfProcesses, ProductsThatNoNumberHoldsAreRefused) {
  ParallelConfig config;
  config.pp = config.dp_shard = config.sp = config.tp = 65536;  // 2^64
  const auto refused = [&] { mesh_of_processes(config, 1); };
  EXPECT_THAT(message_of<UserError>(refused),
              HasSubstr("parallel: pp 65536 x dp_shard 65536 x sp 65536 x tp 65536 makes more than "
                        "1048576 processes; lower one of them"));
  config = {};
  config.pp = 4;
  config.dp_replicate = std::int64_t{1} << 62;  // 2^64 processes
  EXPECT_THAT(message_of<UserError>(refused), HasSubstr(" x dp_replicate 4611686018427387904 "
                                                        "makes more than 1048576 processes"));
  config.dp_replicate = 0;
  config.tp = std::numeric_limits<std::int64_t>::max();
  EXPECT_THAT(message_of<UserError>(refused), HasSubstr("makes more than 1048576 processes"));
}

TEST(HeadsObjection, IsEmptyForHeadsThatCanBeCut) {
  const HeadCounts heads{12, 4, 5};
  for (const auto& [tp, sp] : {std::pair{1, 1}, {2, 1}, {4, 1}, {2, 2}, {1, 12}, {4, 3}})
    EXPECT_EQ(heads_objection(heads, tp, sp), "") << tp << " x " << sp;
  EXPECT_EQ(heads_objection({}, 7, 3), "") << "no heads, nothing to cut";
}

TEST(HeadsObjection, NamesHeadsAndAxes) {
  EXPECT_EQ(heads_objection({4, 2, 0}, 3, 1),
            "tp 3 x sp 1 = 3 does not divide the text model's 4 attention heads; choose tp and sp "
            "so that tp x sp is a divisor of 4");
  EXPECT_EQ(heads_objection({12, 4, 0}, 3, 2),
            "tp 3 x sp 2 = 6 and the text model's 4 key-value heads do not divide one another; "
            "choose tp and sp so that tp x sp is a divisor or a multiple of 4");
  // Sequence ranks have whole tiles: only tp divides the tower's heads.
  EXPECT_EQ(heads_objection({12, 12, 3}, 4, 3),
            "tp 4 is above the vision tower's 3 attention heads (at sp 3); choose tp of at most 3");
  EXPECT_EQ(heads_objection({12, 12, 3}, 3, 4), "");
}

}  // namespace
}  // namespace gimbal
