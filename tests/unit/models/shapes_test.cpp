// Shapes that blocks announce, and where picked rows lie in a cut.
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/models/place_split.h"
#include "unit/models/fake_ranks.h"
#include "unit/models/tiny_models.h"

namespace gimbal {
namespace {

using namespace tiny_models;  // NOLINT: a test's own helpers

void expect_shape(const std::optional<RowsShape>& shape, const at::Tensor& tensor,
                  const std::string& block) {
  ASSERT_EQ(shape.has_value(), tensor.defined()) << block;
  if (!shape) return;
  EXPECT_EQ(tensor.sizes(), (std::vector<std::int64_t>{shape->rows, shape->width})) << block;
}

TEST(OutputShape, IsThatOfForward) {
  at::set_num_threads(1);
  const c10::AutoGradMode no_graph(false);
  for (const Json& config : {text_config("llama"), rich_internvl_config("qwen3")}) {
    Model model = make_model(config, "m");
    bind(model, at::kFloat);
    for (const Batch& batch : {text_batch({9, 7, 3}, model.image_token_id >= 0),
                               text_batch({4}, false), text_batch({}, false)}) {
      Batch counts;  // no tensors
      counts.text_cu_seqlens = batch.text_cu_seqlens;
      counts.num_tiles = batch.num_tiles;
      Flow flow;
      FlowShape shape;
      for (const auto& block : model.blocks) {
        flow = block->forward({batch}, flow);
        shape = block->output_shape(counts, shape);
        expect_shape(shape.vision, flow.vision, block->name());
        expect_shape(shape.text, flow.text, block->name());
      }
    }
  }
}

TEST(OutputShape, PartsOfAllRanksAreTheWhole) {
  Json config = internvl_config("qwen2");
  const Model whole = make_model(config, "m");
  const Batch batch = text_batch({9, 7, 3, 8}, true);
  FlowShape expected;
  std::vector<Model> ranks;
  for (int part = 0; part < 4; ++part)
    ranks.push_back(make_model(config, "m", cut_ports(2, part / 2, 2, part % 2)));
  std::vector<FlowShape> shapes(ranks.size());
  for (std::size_t i = 0; i < whole.blocks.size(); ++i) {
    expected = whole.blocks[i]->output_shape(batch, expected);
    std::int64_t vision = 0, text = 0;
    for (std::size_t r = 0; r < ranks.size(); ++r) {
      shapes[r] = ranks[r].blocks[i]->output_shape(batch, shapes[r]);
      vision += shapes[r].vision ? shapes[r].vision->rows : 0;
      text += shapes[r].text ? shapes[r].text->rows : 0;
    }
    EXPECT_EQ(vision, expected.vision ? expected.vision->rows : 0) << whole.blocks[i]->name();
    EXPECT_EQ(text, expected.text ? expected.text->rows : 0) << whole.blocks[i]->name();
  }
}

TEST(PlaceSplit, CountsThePlacesOfEachPart) {
  const RowSplit rows{{0, 3, 3, 10}, 2};
  EXPECT_EQ(split_places({0, 2, 3, 9}, 4, rows), (RowSplit{{0, 2, 2, 4}, 2}));
  EXPECT_EQ(split_places({}, 0, rows), (RowSplit{{0, 0, 0, 0}, 2}));
  EXPECT_EQ(split_places({}, 7, RowSplit{{0, 10}, 0}), (RowSplit{{0, 7}, 0}));
  EXPECT_THROW(split_places({}, 1, rows), InternalError);      // not on the host
  EXPECT_THROW(split_places({2, 1}, 2, rows), InternalError);  // not in order
}

TEST(VisionEmbed, TilesThatWereNotReadAreInternalErrors) {
  Model model = make_model(internvl_config("qwen2"), "m");
  bind(model, at::kFloat);
  Batch batch = text_batch({9}, true);
  batch.pixels_ICYX = at::Tensor();
  EXPECT_THROW(loss_of(model, batch), InternalError);
}

}  // namespace
}  // namespace gimbal
