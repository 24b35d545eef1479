#include "gimbal/train/data/sample_order.h"

#include <gtest/gtest.h>

namespace gimbal {
namespace {

constexpr std::uint64_t kPatterns = 17;

/// What a run with `changed` is told when it goes on from one with `began`.
std::string changes(const Recipe& began, const Recipe& changed,
                    std::uint64_t patterns = kPatterns) {
  return order_changes(order_fingerprint(began, kPatterns), order_fingerprint(changed, patterns));
}

TEST(SampleOrder, TheSameRecipeHasTheSameOrder) {
  Recipe recipe;
  recipe.data.weights = {{"a b", 2}, {"c=d", 0.5}};
  EXPECT_EQ(changes(recipe, recipe), "");
  Recipe other = recipe;
  other.optimizer.lr = 7;
  other.parallel.pp = 2;
  other.balance.packs_per_slot = other.balance.packs_per_step;  // as by default
  EXPECT_EQ(order_fingerprint(other, kPatterns), order_fingerprint(recipe, kPatterns));
}

TEST(SampleOrder, ChangedKeysAreNamedWithBothValues) {
  Recipe changed;
  changed.balance.text_cap = 500;
  // Patterns are made for the caps.
  EXPECT_EQ(changes({}, changed, 18), "\n  balance.text_cap is 500; the run began with 4096");
  changed = {};
  changed.train.seed = 3;
  changed.balance.method = BalanceMethod::kIsf;
  changed.balance.oversize = OversizeChoice::kReject;
  EXPECT_EQ(changes({}, changed),
            "\n  balance.method is isf; the run began with gimbal"
            "\n  balance.oversize is reject; the run began with error"
            "\n  train.seed is 3; the run began with 0");
}

TEST(SampleOrder, SlotsThatFollowTheStepAreNoChangeOfTheirOwn) {
  Recipe changed;
  changed.balance.packs_per_step = 4;
  EXPECT_EQ(changes({}, changed), "\n  balance.packs_per_step is 4; the run began with 1");
  Recipe slots = changed;
  slots.balance.packs_per_slot = 2;
  EXPECT_EQ(changes(changed, slots), "\n  balance.packs_per_slot is 2; the run began with 4");
}

TEST(SampleOrder, StepsAndSlotsThatBothChangeAreBothNamed) {
  Recipe began, changed;
  began.balance.packs_per_step = 4;
  began.balance.packs_per_slot = 2;
  changed.balance.packs_per_step = 8;
  changed.balance.packs_per_slot = 4;
  EXPECT_EQ(changes(began, changed),
            "\n  balance.packs_per_step is 8; the run began with 4"
            "\n  balance.packs_per_slot is 4; the run began with 2");
  changed.balance.packs_per_slot = 8;
  EXPECT_EQ(changes(began, changed),
            "\n  balance.packs_per_step is 8; the run began with 4"
            "\n  balance.packs_per_slot is 8; the run began with 2");
}

TEST(SampleOrder, WeightsAndPatternsAreNamed) {
  Recipe weighted;
  weighted.data.weights = {{"a b", 2}, {"c", 0.5}};
  EXPECT_EQ(changes({}, weighted), "\n  data.weights is a b=2 c=0.5; the run began with none");
  EXPECT_EQ(changes({}, {}, 18),
            "\n  the packing patterns (patterns.json in the run folder) are not those that the "
            "run began with");
}

TEST(SampleOrder, AnotherVersionIsToldAlone) {
  std::string old_order = order_fingerprint({}, kPatterns);
  old_order.replace(old_order.find("order="), 7, "order=1");
  const std::string text = order_changes(old_order, order_fingerprint({}, kPatterns));
  EXPECT_NE(text.find("this version of Gimbal"), std::string::npos) << text;
  EXPECT_EQ(text.find("balance."), std::string::npos) << text;
}

}  // namespace
}  // namespace gimbal
