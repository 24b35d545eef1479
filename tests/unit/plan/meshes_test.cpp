#include "gimbal/plan/search/meshes.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "gimbal/base/error.h"
#include "unit/plan/plan_cases.h"

namespace gimbal {
namespace {

std::string error_of(const PlanInput& input) {
  try {
    possible_meshes(input);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Meshes, HaveAllDevicesAndDivideTheModel) {
  const PlanInput input = testing::small_input(64);
  const auto meshes = possible_meshes(input);
  EXPECT_GT(meshes.size(), 20U);
  for (const MeshShape& mesh : meshes) {
    EXPECT_EQ(mesh.devices(), 64);
    EXPECT_EQ(input.model.text_heads % (mesh.tp * mesh.sp), 0);
    EXPECT_LE(mesh.tp, input.profile.links.devices_per_node);
    EXPECT_EQ(mesh.ep, 1);
    EXPECT_EQ(std::count(meshes.begin(), meshes.end(), mesh), 1);
  }
}

TEST(Meshes, KeepFixedAxes) {
  PlanInput input = testing::small_input(64);
  input.pp = 4;
  input.tp = 2;
  input.dp_replicate = 2;
  for (const MeshShape& mesh : possible_meshes(input)) {
    EXPECT_EQ(mesh.pp, 4);
    EXPECT_EQ(mesh.tp, 2);
    EXPECT_EQ(mesh.dp_replicate, 2);
    EXPECT_EQ(mesh.devices(), 64);
  }
}

TEST(Meshes, WithoutSearchAreDataParallel) {
  PlanInput input = testing::small_input(6);
  input.without = {"mesh"};
  const auto meshes = possible_meshes(input);
  ASSERT_EQ(meshes.size(), 1U);
  EXPECT_EQ(meshes[0].dp_shard, 6);
}

TEST(Meshes, UseExpertParallelForExperts) {
  PlanInput input = testing::small_input(16);
  input.model.num_experts = 8;
  int most = 0;
  for (const MeshShape& mesh : possible_meshes(input)) {
    most = std::max(most, mesh.ep);
    EXPECT_EQ(mesh.dp_shard * mesh.sp % mesh.ep, 0);
    EXPECT_EQ(8 % mesh.ep, 0);
  }
  EXPECT_EQ(most, 8);
}

TEST(Meshes, SayWhatDoesNotDivide) {
  PlanInput input = testing::small_input(12);
  input.pp = 5;
  EXPECT_EQ(error_of(input),
            "12 devices cannot be factored with pp 5: 5 does not divide 12. Change the number of "
            "devices or an axis.");
  input.pp = 2;
  input.tp = 3;
  EXPECT_NE(
      error_of(input).find("tp 3 x sp 1 = 3 does not divide the text model's 16 attention heads"),
      std::string::npos)
      << error_of(input);
  input = testing::small_input(64);
  input.tp = 4;
  input.sp = 8;
  EXPECT_NE(error_of(input).find("tp 4 x sp 8 = 32 does not divide"), std::string::npos);
  input = testing::small_input(8);
  input.ep = 2;
  EXPECT_NE(error_of(input).find("has no routed experts"), std::string::npos);
  input = testing::small_input(64);
  input.pp = 64;
  EXPECT_NE(error_of(input).find("more stages than the model has blocks"), std::string::npos);
  input = testing::small_input(0);
  EXPECT_NE(error_of(input).find("must be at least 1"), std::string::npos);
  input = testing::small_input(8);
  input.pp = input.tp = input.sp = input.dp_shard = input.dp_replicate = 1;
  EXPECT_NE(error_of(input).find("is 1 devices, but there are 8"), std::string::npos);
  input = testing::small_input(8);
  input.dp_shard = 0;
  EXPECT_NE(error_of(input).find("dp_shard is 0; must be at least 1"), std::string::npos);
}

}  // namespace
}  // namespace gimbal
