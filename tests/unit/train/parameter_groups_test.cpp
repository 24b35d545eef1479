#include "gimbal/train/trainer/parameter_groups.h"

#include <gtest/gtest.h>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

std::vector<ParameterPtr> parameters() {
  ParameterList list;
  list.add("vision.0.fc1.weight", {4, 4}, {});
  list.add("vision.0.fc1.bias", {4}, {});
  list.add("text.0.q_proj.weight", {4, 4}, {});
  list.add("text.norm.weight", {4}, {});
  return list.all();
}

TEST(ParameterGroups, NormsAndBiasesHaveNoDecay) {
  OptimizerConfig config;
  config.weight_decay = 0.1;
  const auto all = parameters();
  const ParameterGroups groups(config, all);
  const auto rates = groups.rates(1.0);
  EXPECT_EQ(groups.groups().size(), 2U);
  EXPECT_DOUBLE_EQ(rates[static_cast<std::size_t>(groups.group_of(*all[0]))].weight_decay, 0.1);
  EXPECT_DOUBLE_EQ(rates[static_cast<std::size_t>(groups.group_of(*all[1]))].weight_decay, 0.0);
  EXPECT_EQ(groups.group_of(*all[1]), groups.group_of(*all[3]));
}

TEST(ParameterGroups, DecayOfNormsCanBeSwitchedOn) {
  OptimizerConfig config;
  config.decay_norms_and_biases = true;
  EXPECT_EQ(ParameterGroups(config, parameters()).groups().size(), 1U);
}

TEST(ParameterGroups, FirstMatchingPatternScalesTheRate) {
  OptimizerConfig config;
  config.weight_decay = 0.1;
  config.groups = {{"vision.*", 0.25, 0.5}, {"*", 2.0, -1.0}};
  const auto all = parameters();
  const ParameterGroups groups(config, all);
  const auto rates = groups.rates(8.0);
  const auto rate_of = [&](std::size_t i) {
    return rates[static_cast<std::size_t>(groups.group_of(*all[i]))];
  };
  EXPECT_DOUBLE_EQ(rate_of(0).lr, 2.0);
  EXPECT_DOUBLE_EQ(rate_of(0).weight_decay, 0.5);
  EXPECT_DOUBLE_EQ(rate_of(1).weight_decay, 0.0);
  EXPECT_DOUBLE_EQ(rate_of(2).lr, 16.0);
  EXPECT_DOUBLE_EQ(rate_of(2).weight_decay, 0.1);
}

TEST(ParameterGroups, PatternWithoutMatchIsAnError) {
  OptimizerConfig config;
  config.groups = {{"visoin.*", 0.1, -1.0}};
  EXPECT_THROW(ParameterGroups(config, parameters()), UserError);
}

}  // namespace
}  // namespace gimbal
