#include "gimbal/parallel/store/flat_unit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <map>

#include "balance/check_cases.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

ParameterPtr make_parameter(const std::string& name, std::int64_t rows, std::int64_t columns) {
  auto parameter = std::make_shared<Parameter>();
  parameter->name = name;
  parameter->shape = {rows, columns};
  return parameter;
}

int group_of(const Parameter& parameter) { return static_cast<int>(parameter.shape[1] % 3); }

TEST(FlatUnit, PutsParametersOnCacheLinesGroupByGroup) {
  const std::vector<ParameterPtr> parameters{make_parameter("a", 3, 7), make_parameter("b", 2, 3),
                                             make_parameter("c", 1, 1)};
  EXPECT_EQ(unit_alignment(at::kFloat, at::kFloat), 16);
  EXPECT_EQ(unit_alignment(at::kDouble, at::kDouble), 8);
  EXPECT_EQ(unit_alignment(at::kFloat, at::kBFloat16), 32);
  const UnitLayout layout = make_unit_layout(parameters, group_of, 4, 16);
  EXPECT_EQ(layout.places[0].parameter->name, "b");
  EXPECT_EQ(layout.places[1].parameter->name, "a");
  EXPECT_EQ(layout.places[1].offset, 16);
  EXPECT_EQ(layout.places[2].offset, 48);
  EXPECT_EQ(layout.groups[1].begin, 16);
  EXPECT_EQ(layout.groups[1].end, 64);
  EXPECT_EQ(layout.numel, 64);
  EXPECT_EQ(make_unit_layout(parameters, group_of, 3, 16).numel, 96);
  EXPECT_EQ(make_unit_layout({make_parameter("none", 0, 4)}, group_of, 3, 16).numel, 0);
}

TEST(FlatUnit, ShardsOfAllRanksArePiecesOfTheWholeProperty) {
  testing::check_cases(100, [] {
    const int num_shards = *testing::between(1, 6);
    std::vector<ParameterPtr> parameters;
    const int count = *testing::between(1, 8);
    for (int i = 0; i < count; ++i) {
      parameters.push_back(make_parameter("p" + std::to_string(i),
                                          *testing::between<std::int64_t>(0, 30),
                                          *testing::between<std::int64_t>(1, 9)));
    }
    const UnitLayout layout = make_unit_layout(parameters, group_of, num_shards, 16);
    const at::Tensor whole = at::arange(layout.numel, at::kFloat);
    std::map<const Parameter*, std::vector<at::Tensor>> pieces;
    std::map<const Parameter*, std::int64_t> ends;
    std::vector<int> groups;
    for (int rank = 0; rank < num_shards; ++rank) {
      const at::Tensor own =
          whole.narrow(0, rank * layout.shard_numel(), layout.shard_numel()).clone();
      const auto shards = flat_shards(layout, rank, "block", own, own);
      std::vector<int> shard_groups;
      for (const FlatShard& shard : shards) {
        shard_groups.push_back(shard.group);
        RC_ASSERT(shard.values.numel() > 0 || shard.slices.empty());
        for (const auto& slice : shard.slices) {
          RC_ASSERT(group_of(*slice.parameter) == shard.group);
          RC_ASSERT(slice.numel > 0);
          RC_ASSERT(slice.begin == ends[slice.parameter.get()]);
          RC_ASSERT(slice.begin > 0 || slice.offset % 16 == 0);
          ends[slice.parameter.get()] += slice.numel;
          pieces[slice.parameter.get()].push_back(
              shard.gradients.narrow(0, slice.offset, slice.numel));
        }
      }
      RC_ASSERT(rank == 0 || shard_groups == groups);
      groups = shard_groups;
    }
    for (const UnitLayout::Place& place : layout.places) {
      RC_ASSERT(ends[place.parameter.get()] == place.parameter->numel());
      if (place.parameter->numel() == 0) continue;
      std::int64_t next = place.offset;
      for (const at::Tensor& piece : pieces[place.parameter.get()]) {
        RC_ASSERT(at::equal(piece, at::arange(next, next + piece.numel(), at::kFloat)));
        next += piece.numel();
      }
      RC_ASSERT(view_of(whole, place)[0][0].item<std::int64_t>() == place.offset);
    }
  });
}

TEST(FlatUnit, RefusesValuesOfAnotherSize) {
  const UnitLayout layout = make_unit_layout({make_parameter("a", 3, 7)}, group_of, 2, 16);
  EXPECT_THROW(flat_shards(layout, 0, "block", at::arange(3), at::Tensor()), InternalError);
}

}  // namespace
}  // namespace gimbal
