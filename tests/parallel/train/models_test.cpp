// Whole models cut over sequence and tensor parallel ranks against one rank with everything: loss,
// all gradients, logits and generation, in float64, where only the order of sums differs.
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <limits>

#include "gimbal/nn/attention/kv_cache.h"
#include "gimbal/parallel/mesh.h"
#include "gimbal/parallel/ports.h"
#include "unit/models/tiny_models.h"
#include "workers.h"

namespace gimbal {
namespace {

using namespace tiny_models;  // NOLINT: a test's own helpers
using testing_workers::run_workers;
using testing_workers::Worker;

// |ours - expected| <= c * eps * (1 + |expected|), by norms. A dozen layers with sums of up to a
// few hundred products each, whose roundings add up like steps of random sign.
constexpr double kC = 64;

void expect_near(const at::Tensor& ours, const at::Tensor& expected, const std::string& what) {
  GIMBAL_CHECK(ours.sizes() == expected.sizes(), "", what, ": ", ours.sizes(), " vs ",
               expected.sizes());
  const double error = (ours - expected).norm().item<double>();
  const double allowed =
      kC * std::numeric_limits<double>::epsilon() * (1 + expected.norm().item<double>());
  GIMBAL_CHECK(error <= allowed, "", what, ": error ", error, ", allowed ", allowed);
}

Json with_heads(Json config, int num_heads, int num_kv_heads) {
  Json& text = config.contains("text_config") ? config["text_config"] : config;
  text["num_attention_heads"] = num_heads;
  text["num_key_value_heads"] = num_kv_heads;
  return config;
}

struct TinyCase {
  std::string name;
  Json config;
};

std::vector<TinyCase> tiny_cases(bool all) {
  Json tied_qwen2 = text_config("qwen2");
  tied_qwen2["tie_word_embeddings"] = true;
  tied_qwen2["vocab_size"] = 41;
  Json biased_llama = text_config("llama");
  biased_llama["attention_bias"] = biased_llama["mlp_bias"] = true;
  biased_llama["intermediate_size"] = 26;
  if (!all) return {{"internvl rich", with_heads(rich_internvl_config("qwen3"), 6, 3)}};
  return {{"internvl", internvl_config("qwen2")},
          {"internvl rich", rich_internvl_config("qwen3")},
          {"qwen2 tied, one kv head", with_heads(tied_qwen2, 4, 1)},
          {"qwen3, four kv heads", with_heads(text_config("qwen3"), 4, 4)},
          {"llama", biased_llama}};
}

std::vector<Batch> packs(bool with_pictures) {
  if (!with_pictures)
    return {text_batch({9, 1, 17}, false), text_batch({3}, false), text_batch({}, false)};
  return {text_batch({9, 3, 17}, true),         // two tiles: fewer than four ranks
          text_batch({7, 8, 6, 30, 12}, true),  // five
          text_batch({12, 5}, false), text_batch({2}, false), text_batch({}, false)};
}

/// The sum over the ranks that hold other rows: those of sp for a cut parameter, else all.
void check_gradients(const Mesh& mesh, const Model& model, const Model& whole) {
  const auto parameters = model.parameters(), expected = whole.parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = *parameters[i];
    at::Tensor sum = p.value.grad().defined() ? p.value.grad().contiguous().clone()
                                              : at::zeros(p.shape, at::kDouble);
    Comm& comm = p.sharded_dim < 0 ? mesh.pack() : mesh.sp();
    if (comm.size() > 1 && sum.numel() > 0) comm.all_reduce_sum(sum, p.name)->wait();
    const at::Tensor& full = expected[i]->value.grad();
    expect_near(sum, full.defined() ? part_of(p, full) : at::zeros_like(sum), p.name);
  }
}

void check_shapes(const Model& model, const Batch& batch) {
  const c10::AutoGradMode no_graph(false);
  Flow flow;
  FlowShape shape;
  const auto check = [](const std::optional<RowsShape>& announced, const at::Tensor& x) {
    GIMBAL_CHECK_EQ(announced.has_value(), x.defined());
    if (!announced) return;
    GIMBAL_CHECK_EQ(announced->rows, x.size(0));
    GIMBAL_CHECK_EQ(announced->width, x.size(1));
  };
  for (const auto& block : model.blocks) {
    flow = block->forward({batch}, flow);
    shape = block->output_shape(batch, shape);
    check(shape.vision, flow.vision);
    check(shape.text, flow.text);
  }
}

/// Bound to the same bfloat16 numbers, in float32.
void bind_rounded(Model& model) {
  for (const ParameterPtr& p : model.parameters()) {
    p->value = initial_values(*p, 1).to(at::kBFloat16).to(at::kFloat).requires_grad_(true);
  }
}

// A step of bfloat16: its numbers have 8 bits.
constexpr double kBfloat16Eps = 0x1p-8;
// Dozens of operations, each rounding once: as steps of random sign they add up to a few steps.
constexpr double kBfloat16C = 12;

/// All gradients in bfloat16 against one rank in float32 with the same weights. By the norm over
/// the whole model, and for each parameter by its own norm: parameters whose gradient cancels
/// (biases of keys) are measured by that of an average parameter.
void check_bfloat16_gradients(const Mesh& mesh, const Model& model, const Model& whole) {
  const auto parameters = model.parameters(), expected = whole.parameters();
  double all = 0, all_errors = 0;
  std::vector<double> norms, errors;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = *parameters[i];
    const at::Tensor& own = p.value.grad();
    GIMBAL_CHECK(!own.defined() || own.scalar_type() == at::kBFloat16, "gradient of ", p.name);
    at::Tensor sum = own.defined() ? own.to(at::kFloat).contiguous() : at::zeros(p.shape);
    Comm& comm = p.sharded_dim < 0 ? mesh.pack() : mesh.sp();
    if (comm.size() > 1 && sum.numel() > 0) comm.all_reduce_sum(sum, p.name)->wait();
    const at::Tensor& full = expected[i]->value.grad();
    const at::Tensor wanted = full.defined() ? part_of(p, full) : at::zeros_like(sum);
    norms.push_back(wanted.norm().item<double>());
    errors.push_back((sum - wanted).norm().item<double>());
    all += norms.back() * norms.back();
    all_errors += errors.back() * errors.back();
  }
  const double average = std::sqrt(all / static_cast<double>(parameters.size()));
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const double allowed = kBfloat16C * kBfloat16Eps * (norms[i] + average);
    GIMBAL_CHECK(errors[i] <= allowed, "bfloat16: gradient of ", parameters[i]->name, ": error ",
                 errors[i], ", allowed ", allowed, ", norm ", norms[i]);
  }
  GIMBAL_CHECK(std::sqrt(all_errors) <= kBfloat16C * kBfloat16Eps * std::sqrt(all),
               "bfloat16: error of all gradients ", std::sqrt(all_errors), " of ", std::sqrt(all));
}

/// Loss and gradients in bfloat16. The loss: its inputs are rounded to 8 bits a few times on the
/// way, and the mean over the rows evens that out.
void check_bfloat16(const Mesh& mesh, const Json& config, const Batch& batch) {
  Model model = make_model(config, "m", make_mesh_ports(mesh.tp(), mesh.sp(), mesh.pack())),
        whole = make_model(config, "m");
  bind(model, at::kBFloat16);
  bind_rounded(whole);
  const at::Tensor loss = loss_of(model, batch), whole_loss = loss_of(whole, batch);
  const double expected = whole_loss.item<double>();
  loss.backward();
  whole_loss.backward();
  at::Tensor sum = loss.detach().clone();
  if (mesh.sp().size() > 1) mesh.sp().all_reduce_sum(sum, "loss")->wait();
  const double error = std::abs(sum.item<double>() - expected);
  GIMBAL_CHECK(error <= 2 * kBfloat16Eps * expected, "bfloat16: loss ", sum.item<double>(), " vs ",
               expected);
  check_bfloat16_gradients(mesh, model, whole);
}

/// Logits of the prompts' last rows, then of one more token for each.
std::vector<at::Tensor> generate_logits(const Model& model, const Batch& prompts) {
  const auto& cu = prompts.text_cu_seqlens;
  const auto num = static_cast<std::int64_t>(cu.size()) - 1;
  KvCache cache(model.cache.num_layers, num, 64, model.cache.num_kv_heads, model.cache.head_dim,
                at::TensorOptions(at::kDouble));
  std::vector<at::Tensor> logits{
      run_blocks(model, {prompts, PassKind::kNextLogits, &cache}).logits};
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < num; ++i)
    lengths.push_back(cu[static_cast<std::size_t>(i) + 1] - cu[static_cast<std::size_t>(i)]);
  cache.advance(lengths);
  Batch next;
  next.token_ids_T = at::zeros({num}, at::kLong) + 9;
  next.positions_T = at::tensor(cache.lengths(), at::kLong);
  for (std::int64_t i = 0; i <= num; ++i) next.text_cu_seqlens.push_back(i);
  logits.push_back(run_blocks(model, {next, PassKind::kNextLogits, &cache}).logits);
  return logits;
}

void check_logits(const Model& model, const Model& whole, const Batch& batch) {
  const c10::AutoGradMode no_graph(false);
  expect_near(run_blocks(model, {batch, PassKind::kAllLogits}).logits,
              run_blocks(whole, {batch, PassKind::kAllLogits}).logits, "all logits");
  if (batch.num_tokens() == 0) return;
  const auto ours = generate_logits(model, batch), expected = generate_logits(whole, batch);
  expect_near(ours[0], expected[0], "logits of the prompts");
  expect_near(ours[1], expected[1], "logits of a token");
}

void check_model(const Mesh& mesh, const TinyCase& test, std::size_t num_packs,
                 bool frozen_vision) {
  const Ports ports = make_mesh_ports(mesh.tp(), mesh.sp(), mesh.pack());
  Model model = make_model(test.config, "m", ports), whole = make_model(test.config, "m");
  std::vector<Batch> batches = packs(model.image_token_id >= 0);
  batches.resize(std::min(num_packs, batches.size()));
  for (const Batch& batch : batches) {
    bind(model, at::kDouble);
    bind(whole, at::kDouble);
    if (frozen_vision)
      for (Model* m : {&model, &whole})
        for (const ParameterPtr& p : m->parameters())
          if (p->name.starts_with("vision")) p->value.requires_grad_(false);
    check_shapes(model, batch);
    const at::Tensor loss = loss_of(model, batch), expected = loss_of(whole, batch);
    loss.backward();
    expected.backward();
    at::Tensor sum = loss.detach().clone();
    if (mesh.sp().size() > 1) mesh.sp().all_reduce_sum(sum, "loss")->wait();
    expect_near(sum, expected.detach(), "loss");
    check_gradients(mesh, model, whole);
    check_logits(model, whole, batch);
  }
  check_bfloat16(mesh, test.config, packs(model.image_token_id >= 0)[0]);
}

void check_on_meshes(const std::vector<std::pair<int, int>>& meshes, bool all) {
  const auto world = make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(60));
  int runs = 0;
  for (const auto& [sp, tp] : meshes) {
    const Mesh mesh(*world, MeshShape{.sp = sp, .tp = tp}, concat("sp", sp, "tp", tp));
    for (const TinyCase& test : tiny_cases(all)) {
      const std::size_t num_packs = sp > 2 || tp > 2 ? 2 : 5;
      // More ranks than heads in the tower.
      if (test.config.contains("vision_config") && tp > 3) continue;
      try {
        check_model(mesh, test, num_packs, /*frozen_vision=*/runs == 1);
      } catch (const std::exception& e) {
        const InternalError error(concat(test.name, ", sp ", sp, ", tp ", tp, ", rank ",
                                         mesh.pack().rank(), ": ", e.what()));
        world->report_failure(error);
        throw error;
      }
      ++runs;
    }
  }
  std::cout << runs << " models";
}

const Worker kTwo("models on two ranks", [] { check_on_meshes({{2, 1}, {1, 2}}, true); });
const Worker kFour("models on four ranks", [] { check_on_meshes({{2, 2}, {4, 1}, {1, 4}}, true); });
// Neither of tp 2 and 3 kv heads divides the other.
const Worker kSix("models on six ranks", [] { check_on_meshes({{3, 2}}, false); });

void expect_all(const std::string& worker, int size, const std::string& output) {
  for (const auto& result : run_workers(worker, size)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, output);
  }
}

TEST(Models, OnTwoRanksAreThoseOfOne) { expect_all("models on two ranks", 2, "10 models"); }
TEST(Models, OnFourRanksAreThoseOfOne) { expect_all("models on four ranks", 4, "13 models"); }
TEST(Models, WithUnevenKeyHeadsAreThoseOfOne) { expect_all("models on six ranks", 6, "1 models"); }

}  // namespace
}  // namespace gimbal
