// Weight gradients that are put off are those of the ordinary backward, bit for bit.
#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "gimbal/base/error.h"
#include "gimbal/nn/ops/gemm.h"
#include "unit/models/tiny_models.h"

namespace gimbal {
namespace {

using namespace tiny_models;  // NOLINT: a test's own helpers

std::map<std::string, at::Tensor> gradients(const Model& model) {
  std::map<std::string, at::Tensor> result;
  for (const ParameterPtr& p : model.parameters()) result[p->name] = p->value.grad();
  return result;
}

// A width at which products are large enough for the other kernel of gemm.h.
Json wide_config() {
  Json config = rich_internvl_config("qwen3");
  config["text_config"]["hidden_size"] = 256;
  config["text_config"]["intermediate_size"] = 512;
  return config;
}

TEST(Deferred, GradientsAreBitEqual) {
  at::set_num_threads(1);
  for (const Json& config :
       {internvl_config("qwen2"), rich_internvl_config("llama"), wide_config()})
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const Batch batch = text_batch({9, 12, 30, 3}, true);
      Model model = make_model(config, "m");
      bind(model, dtype);
      loss_of(model, batch).backward();
      loss_of(model, batch).backward();
      const auto expected = gradients(model);

      bind(model, dtype);
      DeferredGradients deferred;
      std::set<std::string> put_off;
      for (int pass = 0; pass < 2; ++pass) {
        for (const ParameterPtr& p : model.parameters()) p->deferred = &deferred;
        const at::Tensor loss = loss_of(model, batch);
        for (const ParameterPtr& p : model.parameters()) p->deferred = nullptr;
        loss.backward();
        if (pass == 0)
          for (const auto& [name, gradient] : gradients(model))
            if (!gradient.defined()) put_off.insert(name);
        for (const auto& task : deferred.tasks) task();
        deferred.tasks.clear();
      }
      for (const auto& [name, gradient] : gradients(model)) {
        ASSERT_TRUE(gradient.defined()) << name;
        EXPECT_FALSE(gradient.requires_grad());
        EXPECT_TRUE(gradient.equal(expected.at(name))) << name << " " << dtype;
      }
      // All products' weights and nothing else.
      for (const ParameterPtr& p : model.parameters()) {
        const bool product = p->name.ends_with("_proj.weight") || p->name.ends_with("fc1.weight") ||
                             p->name.ends_with("fc2.weight") || p->name.ends_with("patch.weight") ||
                             p->name.find("projector.linear_") == 0;
        EXPECT_EQ(put_off.contains(p->name), product && p->name.ends_with("weight")) << p->name;
      }
    }
}

TEST(Deferred, AddsIntoAGradientThatIsThere) {
  Parameter weight;
  weight.name = "w";
  weight.value = at::ones({2, 3}).requires_grad_(true);
  weight.value.mutable_grad() = at::ones({2, 3}) * 10;
  const void* place = weight.value.grad().data_ptr();
  DeferredGradients deferred;
  weight.deferred = &deferred;
  const at::Tensor x = at::ones({4, 3}).requires_grad_(true);
  apply_linear(x, weight, nullptr).sum().backward();
  EXPECT_TRUE(x.grad().equal(at::ones({4, 3}) * 2));  // at once
  EXPECT_TRUE(weight.value.grad().equal(at::ones({2, 3}) * 10));
  ASSERT_EQ(deferred.tasks.size(), 1U);
  deferred.tasks[0]();
  EXPECT_TRUE(weight.value.grad().equal(at::ones({2, 3}) * 14));
  EXPECT_EQ(weight.value.grad().data_ptr(), place);
}

TEST(Deferred, FrozenWeightsAndPassesWithoutGraphPutNothingOff) {
  Parameter weight;
  weight.name = "w";
  weight.value = at::ones({2, 3});
  DeferredGradients deferred;
  weight.deferred = &deferred;
  const at::Tensor x = at::ones({4, 3}).requires_grad_(true);
  apply_linear(x, weight, nullptr).sum().backward();
  EXPECT_TRUE(deferred.tasks.empty());
  // What is no leaf has no gradient to add to.
  weight.value = at::ones({2, 3}).requires_grad_(true) * 2;
  EXPECT_THROW(apply_linear(x, weight, nullptr), InternalError);
}

}  // namespace
}  // namespace gimbal
