// Shapes that blocks announce, and where picked rows lie in a cut.
#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/models/internvl/vision_embed.h"
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

// "vision.embed" of each rank that shares a pack.
class VisionEmbedOfRanks : public ::testing::TestWithParam<std::pair<int, int>> {
 protected:
  static InternVlVisionConfig tiny_vision() {
    InternVlVisionConfig config;
    config.width = 12;
    config.image_size = 4;
    config.patch_size = 2;
    return config;
  }
  static at::Tensor pixels(std::int64_t num_tiles) {
    return at::randn({num_tiles, 3, 4, 4}, at::make_generator<at::CPUGeneratorImpl>(5));
  }
  int sp_ = GetParam().first, tp_ = GetParam().second;
};

// Rows and all gradients of one rank.
std::vector<at::Tensor> rows_and_gradients(const VisionEmbed& embed, const Batch& batch) {
  for (const ParameterPtr& p : embed.parameters())
    p->value = initial_values(*p, 1).to(at::kFloat).contiguous().requires_grad_(true);
  const at::Tensor rows = embed.forward({batch}, Flow()).vision;
  (rows * rows).sum().backward();
  std::vector<at::Tensor> result{rows};
  for (const ParameterPtr& p : embed.parameters()) result.push_back(p->value.grad());
  return result;
}

TEST_P(VisionEmbedOfRanks, TilesThatItReadsAreEnoughToTheBit) {
  at::set_num_threads(1);
  for (const std::int64_t num_tiles : {0, 1, 2, 3, 7}) {
    Batch whole;
    whole.num_tiles = num_tiles;
    whole.pixels_ICYX = pixels(num_tiles);
    std::int64_t num_rows = 0, begin_of_next = 0;
    for (int part = 0; part < sp_ * tp_; ++part) {
      const VisionEmbed embed(tiny_vision(), cut_ports(sp_, part / tp_, tp_, part % tp_));
      const TileRange tiles = embed.tiles_read(num_tiles);
      const std::vector<at::Tensor> expected = rows_and_gradients(embed, whole);
      const std::int64_t own_rows = expected[0].size(0);
      // Whole tiles from that of the first row to that of the last: two ranks share one at most.
      EXPECT_EQ(tiles.size() == 0, own_rows == 0);
      if (own_rows > 0) {
        EXPECT_EQ(tiles, (TileRange{num_rows / 5, (num_rows + own_rows + 4) / 5}));
        EXPECT_TRUE(tiles.begin == begin_of_next || tiles.begin + 1 == begin_of_next);
        begin_of_next = tiles.end;
      }
      num_rows += own_rows;
      Batch own = whole;
      own.first_tile = tiles.begin;
      own.pixels_ICYX = whole.pixels_ICYX.narrow(0, tiles.begin, tiles.size()).clone();
      const std::vector<at::Tensor> ours = rows_and_gradients(embed, own);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_TRUE(ours[i].defined() && expected[i].defined());
        EXPECT_TRUE(ours[i].equal(expected[i])) << part << " " << i;
      }
      if (tiles.size() == 0) continue;
      own.pixels_ICYX = own.pixels_ICYX.narrow(0, 1, tiles.size() - 1);
      EXPECT_THROW(embed.forward({own}, Flow()), InternalError);  // the last one is not there
      ++own.first_tile;
      EXPECT_THROW(embed.forward({own}, Flow()), InternalError);  // the first one is not there
    }
    EXPECT_EQ(num_rows, num_tiles * 5);
    EXPECT_EQ(begin_of_next, num_tiles);
  }
}

INSTANTIATE_TEST_SUITE_P(Parts, VisionEmbedOfRanks,
                         ::testing::Values(std::pair{1, 1}, std::pair{2, 1}, std::pair{1, 2},
                                           std::pair{2, 2}, std::pair{8, 1}));

}  // namespace
}  // namespace gimbal
