// Runs a model folder on a batch given as tensors and writes everything that transformers can be
// compared with: logits, loss, every gradient under its Hugging Face name, the losses of AdamW
// steps, greedy generation, and the folder saved again.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>

#include "gimbal/base/json.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/checkpoint/safetensors.h"
#include "gimbal/models/model.h"
#include "gimbal/optim/adamw.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/store.h"
#include "gimbal/train/export_run.h"
#include "gimbal/train/generate.h"
#include "gimbal/train/tape/tape.h"
#include "gimbal/train/weights.h"

namespace {

using gimbal::Batch;

struct Options {
  std::string model, input, output, save, dtype = "float32";
  int num_steps = 0;
  std::int64_t num_new_tokens = 0;
  std::int64_t chunk_rows = 1024;
  double lr = 1e-3, weight_decay = 0.01;
  bool random_weights = false;
  bool recompute = false;
};

at::ScalarType dtype_of(const std::string& name) {
  if (name == "float64") return at::kDouble;
  return name == "bfloat16" ? at::kBFloat16 : at::kFloat;
}

// Input tensors: token_ids [T], cu_seqlens [B + 1], is_target [T] (1 where the token counts in the
// loss), pixels [I, C, Y, X] (absent without pictures).
Batch read_batch(const gimbal::SafetensorsReader& input, std::int64_t image_token_id) {
  Batch batch;
  batch.token_ids_T = input.tensor("token_ids").clone();
  const at::Tensor cu = input.tensor("cu_seqlens");
  std::vector<at::Tensor> positions;
  for (std::int64_t i = 0; i < cu.numel(); ++i) {
    batch.text_cu_seqlens.push_back(cu.const_data_ptr<std::int64_t>()[i]);
    if (i == 0) continue;
    batch.samples.push_back(static_cast<std::uint32_t>(i - 1));
    positions.push_back(at::arange(batch.text_cu_seqlens[static_cast<std::size_t>(i)] -
                                       batch.text_cu_seqlens[static_cast<std::size_t>(i - 1)],
                                   at::kLong));
  }
  batch.positions_T = at::cat(positions);
  if (input.contains("pixels")) batch.pixels_ICYX = input.tensor("pixels").clone();
  batch.image_rows_R = (batch.token_ids_T == image_token_id).nonzero().squeeze(1);
  const at::Tensor target_rows = input.tensor("is_target").nonzero().squeeze(1);
  batch.loss_rows_Q = target_rows - 1;
  batch.targets_Q = batch.token_ids_T.index_select(0, target_rows);
  batch.loss_weights_Q = at::ones({target_rows.numel()}, at::kFloat);
  if (batch.pixels_ICYX.defined()) batch.num_tiles = batch.pixels_ICYX.size(0);
  gimbal::keep_rows_on_host(batch);
  return batch;
}

class Run {
 public:
  Run(const Options& options)
      : options_(options),
        model_(gimbal::make_model(gimbal::read_json(options.model + "/config.json"),
                                  options.model + "/config.json")),
        comm_(gimbal::make_single_comm()),
        compute_(dtype_of(options.dtype)),
        store_(gimbal::make_replicated_store(
            model_.blocks, *comm_, compute_ == at::kDouble ? at::kDouble : at::kFloat, compute_,
            at::kCPU, [](const gimbal::Parameter&) { return 0; })),
        input_(options.input),
        batch_(read_batch(input_, model_.image_token_id)) {
    if (options.random_weights)
      gimbal::init_weights(*store_, 7);
    else
      gimbal::load_hf_weights(model_, *store_, options.model);
  }

  void write_results() {
    keep("num_parameters",
         at::tensor({model_.num_parameters(), model_.desc.num_parameters()}, at::kLong));
    if (!options_.save.empty()) save_model();
    keep("logits", gimbal::run_forward(model_, *store_, context(gimbal::PassKind::kAllLogits))
                       .logits.to(wide()));
    if (options_.num_new_tokens > 0) keep_generated();
    store_->begin_step();
    keep("loss", train_pass());
    for (const auto& shard : store_->shards())
      for (const auto& slice : shard.slices)
        keep("grad." + model_.hf_names.at(slice.parameter->name),
             shard.gradients.narrow(0, slice.offset, slice.parameter->numel())
                 .view(slice.parameter->shape)
                 .clone());
    keep_steps();
    std::vector<gimbal::TensorSpec> specs;
    for (const auto& [name, values] : results_)
      specs.push_back({name, values.scalar_type(), values.sizes().vec()});
    gimbal::SafetensorsWriter writer(options_.output, specs, {});
    for (const auto& [name, values] : results_) writer.write(name, values);
    writer.close();
  }

 private:
  at::ScalarType wide() const { return compute_ == at::kDouble ? at::kDouble : at::kFloat; }
  void keep(const std::string& name, const at::Tensor& values) {
    results_.emplace_back(name, values.contiguous());
  }
  gimbal::PassContext context(gimbal::PassKind kind) const {
    return {batch_, kind, nullptr, options_.chunk_rows};
  }

  // As runs do it: through a checkpoint.
  void save_model() {
    const std::filesystem::path run = options_.save + ".run";
    const auto checkpoint = gimbal::save_checkpoint(run, {}, store_->shards(), {});
    gimbal::export_checkpoint(checkpoint, model_,
                              compute_ == at::kBFloat16 ? at::kBFloat16 : at::kFloat,
                              options_.model, options_.save);
    std::filesystem::remove_all(run);
  }

  // Forward and backward of the mean loss; gradients stay in the store.
  at::Tensor train_pass() {
    const auto level = options_.recompute ? gimbal::Recompute::kFull : gimbal::Recompute::kKeep;
    gimbal::Tape tape(model_, *store_, std::vector<gimbal::Recompute>(model_.blocks.size(), level));
    const double share =
        1.0 / static_cast<double>(std::max<std::int64_t>(batch_.targets_Q.numel(), 1));
    const at::Tensor loss = tape.forward(context(gimbal::PassKind::kLoss));
    tape.backward(share, true);
    store_->finish_reduce();
    return loss * share;
  }

  void keep_generated() {
    gimbal::GenerateOptions options;
    options.max_new_tokens = options_.num_new_tokens;
    Batch prompts = batch_;
    if (!prompts.pixels_ICYX.defined()) prompts.pixels_ICYX = at::zeros({0, 3, 1, 1});
    if (model_.image_token_id < 0) prompts.image_rows_R = at::zeros({0}, at::kLong);
    std::vector<at::Tensor> rows;
    for (const auto& answer : gimbal::generate(model_, *store_, prompts, compute_, options))
      rows.push_back(at::tensor(answer.tokens, at::kLong));
    keep("generated", at::stack(rows));
  }

  void keep_steps() {
    if (options_.num_steps == 0) return;
    gimbal::AdamW optimizer(store_->shards(), {});
    std::vector<at::Tensor> losses;
    for (int step = 0; step < options_.num_steps; ++step) {
      store_->begin_step();
      losses.push_back(train_pass());
      optimizer.step({{options_.lr, options_.weight_decay}});
      store_->values_changed();
    }
    keep("step_losses", at::stack(losses));
  }

  const Options& options_;
  gimbal::Model model_;
  std::unique_ptr<gimbal::Comm> comm_;
  at::ScalarType compute_;
  std::unique_ptr<gimbal::ParameterStore> store_;
  gimbal::SafetensorsReader input_;
  Batch batch_;
  std::vector<std::pair<std::string, at::Tensor>> results_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Runs a model folder on a given batch and writes logits, loss, gradients, step losses and "
      "generated tokens"};
  app.add_option("--model", options.model, "model folder")->required();
  app.add_option("--input", options.input, "safetensors file with the batch")->required();
  app.add_option("--output", options.output, "safetensors file to write")->required();
  app.add_option("--save", options.save, "folder to save the model to");
  app.add_option("--dtype", options.dtype, "compute dtype")
      ->check(CLI::IsMember({"float32", "float64", "bfloat16"}));
  app.add_option("--steps", options.num_steps, "AdamW steps");
  app.add_option("--lr", options.lr, "learning rate");
  app.add_option("--weight-decay", options.weight_decay, "weight decay");
  app.add_option("--generate", options.num_new_tokens, "tokens to generate for each sample");
  app.add_option("--chunk-rows", options.chunk_rows, "rows of the head at a time");
  app.add_flag("--random-weights", options.random_weights, "initialise instead of loading");
  app.add_flag("--recompute", options.recompute, "recompute every block in the backward pass");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(1);
  try {
    Run(options).write_results();
  } catch (const std::exception& e) {
    std::cerr << e.what() << "\n";
    return 1;
  }
  return 0;
}
