#include "gimbal/cost/model_fingerprint.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "unit/cost/test_models.h"

namespace gimbal {
namespace {

TEST(ModelFingerprint, ChangesWithWhateverChangesCosts) {
  const ModelDesc model = testing::text_model(2, {}, 100);
  const std::string same = model_fingerprint(model);
  EXPECT_EQ(same.size(), 64u);
  EXPECT_EQ(same, model_fingerprint(testing::text_model(2, {}, 100)));
  const std::function<void(ModelDesc&)> changes[] = {
      [](ModelDesc& m) { m.type = "other"; },
      [](ModelDesc& m) { m.blocks.pop_back(); },
      [](ModelDesc& m) { m.blocks[1].name = "x"; },
      [](ModelDesc& m) { m.blocks[1].cost_class = "x"; },
      [](ModelDesc& m) { m.blocks[1].kind = BlockKind::kVisionLayer; },
      [](ModelDesc& m) { m.blocks[1].num_parameters += 1; },
      [](ModelDesc& m) { m.blocks[1].num_expert_parameters += 1; },
      [](ModelDesc& m) { m.blocks[1].output_values_per_row += 1; },
      [](ModelDesc& m) { m.blocks[1].carried_values_per_vision_row += 1; },
      [](ModelDesc& m) { m.blocks[1].tensor_reductions += 1; },
      [](ModelDesc& m) { m.blocks[1].exchanged_values_per_row += 1; },
      [](ModelDesc& m) { m.blocks[1].dispatched_values_per_row += 1; },
      [](ModelDesc& m) { m.blocks[1].unused = true; },
      [](ModelDesc& m) { m.blocks[1].parts[0].name = "x"; },
      [](ModelDesc& m) { m.blocks[1].parts[0].product_flops_per_row += 1; },
      [](ModelDesc& m) { m.blocks[1].parts[0].attention_flops_per_row += 1; },
      [](ModelDesc& m) { m.blocks[1].parts[0].attention_flops_per_pair += 1; },
      [](ModelDesc& m) { m.blocks[1].parts[1].input_values_per_row += 1; },
      [](ModelDesc& m) { m.blocks[1].parts[1].saved_values_per_row += 1; },
  };
  std::set<std::string> all = {same};
  for (const auto& change : changes) {
    ModelDesc other = model;
    change(other);
    EXPECT_TRUE(all.insert(model_fingerprint(other)).second);
  }
}

}  // namespace
}  // namespace gimbal
