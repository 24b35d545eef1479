#include "gimbal/models/layout.h"

#include <ATen/ops/cat.h>
#include <gtest/gtest.h>

#include "gimbal/base/error.h"
#include "gimbal/base/name_pattern.h"
#include "gimbal/models/model.h"
#include "unit/models/fake_ranks.h"
#include "unit/models/tiny_models.h"

namespace gimbal {
namespace {

using tiny_models::cut_ports;
using tiny_models::error_of;
using tiny_models::internvl_config;
using tiny_models::rich_internvl_config;
using tiny_models::text_config;

std::vector<Json> all_configs() {
  std::vector<Json> configs;
  for (const char* family : {"qwen2", "qwen3", "llama"}) {
    configs.push_back(text_config(family));
    configs.push_back(internvl_config(family));
    configs.push_back(rich_internvl_config(family));
  }
  return configs;
}

// Heads that tp ranks can share: the text's evenly, 25 of the tower and widths of 45 and 41 not.
Json config_for(int tp, std::int64_t num_kv_heads, Json config) {
  Json& text = config.contains("text_config") ? config["text_config"] : config;
  text["num_attention_heads"] = 2 * tp;
  text["num_key_value_heads"] = num_kv_heads;
  text["intermediate_size"] = 45;
  text["vocab_size"] = 41;
  if (!config.contains("vision_config")) return config;
  config["vision_config"]["num_attention_heads"] = 25;
  config["vision_config"]["hidden_size"] = 50;
  config["vision_config"]["intermediate_size"] = 45;
  return config;
}

Model model_of_rank(const Json& config, int tp, int t) {
  return make_model(config, "m", cut_ports(1, 0, tp, t));
}

TEST(Layout, EachParameterMatchesOneRowAndEachRowAParameter) {
  for (const Json& config : all_configs()) {
    const Model model = make_model(config, "m");
    std::vector<int> uses(model.layout.size(), 0);
    for (const ParameterPtr& p : model.parameters()) {
      int matches = 0;
      for (std::size_t row = 0; row < model.layout.size(); ++row) {
        if (!matches_pattern(model.layout[row].pattern, p->name)) continue;
        ++matches;
        ++uses[row];
      }
      EXPECT_EQ(matches, 1) << p->name;
    }
    for (std::size_t row = 0; row < uses.size(); ++row)
      EXPECT_GT(uses[row], 0) << model.layout[row].pattern;
  }
}

TEST(Layout, PartsOfAllRanksAreTheWholeParameter) {
  for (const Json& family : all_configs())
    for (int tp = 1; tp <= 8; ++tp)
      for (const int num_kv_heads : {1, tp, 2 * tp}) {
        const Json config = config_for(tp, num_kv_heads, family);
        const Model whole = make_model(config, "m");
        std::vector<Model> ranks;
        for (int t = 0; t < tp; ++t) ranks.push_back(model_of_rank(config, tp, t));
        const auto parameters = whole.parameters();
        for (std::size_t i = 0; i < parameters.size(); ++i) {
          const Parameter& expected = *parameters[i];
          EXPECT_EQ(expected.sharded_dim, -1);
          const at::Tensor full = initial_values(expected, 3);
          std::vector<at::Tensor> parts;
          for (Model& rank : ranks) {
            const Parameter& p = *rank.parameters()[i];
            EXPECT_EQ(p.full_shape, expected.shape) << p.name;
            EXPECT_EQ(p.full_numel(), expected.numel());
            EXPECT_EQ(part_of(p, full).sizes(), at::IntArrayRef(p.shape)) << p.name;
            EXPECT_TRUE(part_of(p, full).equal(initial_values(p, 3))) << p.name;
            parts.push_back(part_of(p, full));
          }
          const int dim = ranks[0].parameters()[i]->sharded_dim;
          const at::Tensor gathered = dim < 0 ? parts.back() : at::cat(parts, dim);
          EXPECT_TRUE(gathered.equal(full)) << expected.name << ", tp " << tp;
        }
        EXPECT_EQ(ranks[0].num_parameters(), whole.num_parameters());
      }
}

// Memory is planned with what the description says of a rank's parameters.
TEST(Layout, RanksHaveAsManyParametersAsTheDescriptionSays) {
  for (Json config : all_configs()) {
    // 4 heads and widths that 4 ranks share evenly, but for key-value heads.
    Json& text = config.contains("text_config") ? config["text_config"] : config;
    if (config.contains("vision_config")) config["vision_config"]["num_attention_heads"] = 4;
    for (const int tp : {1, 2, 4})
      for (const int num_kv_heads : {1, 2, 4}) {
        text["num_key_value_heads"] = num_kv_heads;
        for (int t = 0; t < tp; ++t) {
          const Model rank = model_of_rank(config, tp, t);
          for (std::size_t i = 0; i < rank.blocks.size(); ++i) {
            std::int64_t count = 0;
            for (const ParameterPtr& p : rank.blocks[i]->parameters()) count += p->numel();
            EXPECT_EQ(static_cast<double>(count), rank_dense_parameters(rank.desc.blocks[i], tp))
                << rank.type << " " << rank.blocks[i]->name() << ", tp " << tp << ", "
                << num_kv_heads << " key-value heads";
          }
        }
      }
  }
}

TEST(Layout, CutsWholeHeadsAndKeepsSharedKeyHeadsWhole) {
  const auto find = [](const Model& model, const std::string& name) -> const Parameter& {
    for (const ParameterPtr& p : model.parameters())
      if (p->name == name) return *p;
    throw InternalError("no parameter " + name);
  };
  const Model rank = model_of_rank(config_for(2, 2, rich_internvl_config("qwen3")), 2, 1);
  // 25 heads of width 2: 12 and 13.
  const Parameter& vision = find(rank, "vision.0.attention.q_proj.weight");
  EXPECT_EQ(vision.shape, (std::vector<std::int64_t>{26, 50}));
  EXPECT_EQ(vision.part_begin, 24);
  EXPECT_EQ(find(rank, "vision.0.attention.q_norm.weight").shape, std::vector<std::int64_t>{26});
  EXPECT_EQ(find(rank, "vision.0.attention.o_proj.weight").shape,
            (std::vector<std::int64_t>{50, 26}));
  EXPECT_EQ(find(rank, "vision.0.attention.o_proj.bias").sharded_dim, -1);
  EXPECT_EQ(find(rank, "text.0.attention.k_proj.weight").shape[0], 4);
  EXPECT_EQ(find(rank, "text.embed.weight").shape[0], 21);
  EXPECT_EQ(find(rank, "projector.linear_1.weight").sharded_dim, -1);
  const Model shared = model_of_rank(config_for(2, 1, text_config("qwen2")), 2, 1);
  EXPECT_EQ(find(shared, "text.0.attention.k_proj.weight").sharded_dim, -1);
  EXPECT_EQ(find(shared, "text.0.attention.q_proj.bias").shape, std::vector<std::int64_t>{8});
}

TEST(Layout, TablesThatDoNotFitAreInternalErrors) {
  const auto apply = [](const LayoutTable& table) {
    ParameterList list;
    list.add("a.weight", {6, 4}, {});
    list.add("b.weight", {5}, {});
    apply_layout(table, list.all(), tiny_models::CutLinear(2, 0));
  };
  EXPECT_NO_THROW(apply({{"a.*", 1, 2}, {"b.*", 0}}));
  EXPECT_THROW(apply({{"a.*", 1}}), InternalError);                 // b has no row
  EXPECT_THROW(apply({{"a.*", 1}, {"*.weight"}}), InternalError);   // a has two
  EXPECT_THROW(apply({{"a.*"}, {"b.*"}, {"c.*"}}), InternalError);  // no parameter
  EXPECT_THROW(apply({{"a.*", 1, 3}, {"b.*"}}), InternalError);     // 4 in units of 3
  EXPECT_THROW(apply({{"a.*", 2}, {"b.*"}}), InternalError);        // no such dim
}

TEST(Layout, HeadsThatCannotBeCutAreUserErrors) {
  const auto error = [](const Json& config, int sp, int tp) {
    return error_of([&] { make_model(config, "m", cut_ports(sp, 0, tp, 0)); });
  };
  const Json text = text_config("qwen2");  // 4 query heads, 2 key-value heads
  for (const auto& [sp, tp] : {std::pair{1, 2}, {2, 1}, {2, 2}, {4, 1}, {1, 4}})
    EXPECT_EQ(error(text, sp, tp), "no error") << sp << " " << tp;
  EXPECT_EQ(error(text, 1, 3),
            "tp 3 x sp 1 = 3 does not divide the text model's 4 attention heads; choose tp and sp "
            "so that tp x sp is a divisor of 4");
  EXPECT_NE(error(text, 4, 2).find("tp 2 x sp 4 = 8 does not divide"), std::string::npos);
  Json kv = text;
  kv["num_attention_heads"] = 12;
  kv["num_key_value_heads"] = 4;
  EXPECT_NE(error(kv, 2, 3).find("tp 3 x sp 2 = 6 and the text model's 4 key-value heads"),
            std::string::npos);
  Json vision = internvl_config("qwen2");  // 3 heads in the tower
  EXPECT_NE(error(vision, 1, 4).find("tp 4 is above the vision tower's 3 attention heads"),
            std::string::npos);
  EXPECT_EQ(error(vision, 4, 1), "no error");
}

TEST(Layout, CacheHasTheKeyHeadsOfTheRank) {
  const auto kv_heads = [](int heads, int num_kv_heads, int sp, int q, int tp, int t) {
    Json config = text_config("qwen2");
    config["num_attention_heads"] = heads;
    config["num_key_value_heads"] = num_kv_heads;
    return make_model(config, "m", cut_ports(sp, q, tp, t)).cache.num_kv_heads;
  };
  EXPECT_EQ(kv_heads(8, 8, 2, 1, 2, 0), 2);
  EXPECT_EQ(kv_heads(8, 4, 1, 0, 2, 1), 2);
  EXPECT_EQ(kv_heads(8, 2, 1, 0, 4, 3), 1);
  EXPECT_EQ(kv_heads(8, 2, 2, 0, 2, 1), 1);
  EXPECT_EQ(kv_heads(6, 3, 3, 1, 2, 0), 1);  // neither of tp 2 and 3 heads divides the other
  EXPECT_EQ(kv_heads(8, 2, 1, 0, 1, 0), 2);
}

}  // namespace
}  // namespace gimbal
