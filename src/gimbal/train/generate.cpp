#include "gimbal/train/generate.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

#include "gimbal/base/rng.h"
#include "gimbal/train/tape/tape.h"

namespace gimbal {
namespace {

/// No pictures and no loss rows.
void fill_without_media(Batch& batch, const Batch& prompts) {
  if (prompts.pixels_ICYX.defined()) batch.pixels_ICYX = prompts.pixels_ICYX.narrow(0, 0, 0);
  batch.image_rows_R = at::empty({0}, prompts.image_rows_R.options());
  batch.loss_rows_Q = at::empty({0}, prompts.loss_rows_Q.options());
  batch.targets_Q = at::empty({0}, prompts.targets_Q.options());
  batch.loss_weights_Q = at::empty({0}, prompts.loss_weights_Q.options());
}

/// One token per sequence at the end of what the cache holds.
Batch next_token_batch(const Batch& prompts, const at::Tensor& tokens_B, const KvCache& cache) {
  Batch batch;
  batch.samples = prompts.samples;
  const auto device = prompts.token_ids_T.device();
  const std::int64_t num_sequences = tokens_B.numel();
  batch.token_ids_T = tokens_B.to(device);
  batch.positions_T = at::tensor(cache.lengths(), at::kLong).to(device);
  for (std::int64_t i = 0; i <= num_sequences; ++i) batch.text_cu_seqlens.push_back(i);
  fill_without_media(batch, prompts);
  return batch;
}

/// Passes without sequences for as long as other ranks need passes.
void run_along(const ForwardRunner& runner, const Batch& prompts) {
  while (runner.any(false)) {
    Batch nothing;
    nothing.token_ids_T = prompts.token_ids_T.narrow(0, 0, 0);
    nothing.positions_T = prompts.positions_T.narrow(0, 0, 0);
    nothing.text_cu_seqlens = {0};
    fill_without_media(nothing, prompts);
    runner.run({nothing, PassKind::kNextLogits});
  }
}

std::int64_t draw_token(const float* probabilities, const std::int64_t* ids, std::int64_t count,
                        double top_p, double random) {
  // The smallest set of most likely tokens whose probability reaches top_p; at least one.
  double kept = 0;
  std::int64_t num_kept = 0;
  while (num_kept < count && (num_kept == 0 || kept < top_p))
    kept += static_cast<double>(probabilities[num_kept++]);
  double rest = random * kept;
  for (std::int64_t i = 0; i < num_kept; ++i) {
    rest -= static_cast<double>(probabilities[i]);
    if (rest < 0) return ids[i];
  }
  return ids[num_kept - 1];
}

}  // namespace

at::Tensor choose_tokens(const at::Tensor& logits_BV, const SamplingOptions& options,
                         std::uint64_t draw) {
  const at::Tensor logits = logits_BV.to(at::kCPU, at::kFloat);
  if (options.temperature <= 0) return at::argmax(logits, -1);
  const auto [sorted, ids] =
      at::sort(at::softmax(logits / options.temperature, -1), -1, /*descending=*/true);
  const at::Tensor sorted_cpu = sorted.contiguous();
  const at::Tensor ids_cpu = ids.contiguous();
  const std::int64_t vocab = logits.size(1);
  const std::int64_t count = options.top_k > 0 ? std::min(options.top_k, vocab) : vocab;
  at::Tensor chosen = at::empty({logits.size(0)}, at::kLong);
  for (std::int64_t b = 0; b < logits.size(0); ++b) {
    const CounterRng rng(options.seed, static_cast<std::uint64_t>(b));
    chosen.mutable_data_ptr<std::int64_t>()[b] =
        draw_token(sorted_cpu.const_data_ptr<float>() + b * vocab,
                   ids_cpu.const_data_ptr<std::int64_t>() + b * vocab, count, options.top_p,
                   rng.uniform(draw));
  }
  return chosen;
}

std::vector<Answer> generate(const Model& model, ParameterStore& store, const Batch& prompts,
                             at::ScalarType dtype, const GenerateOptions& options,
                             const OnToken& on_token) {
  return generate(model, ForwardRunner(model, store), prompts, dtype, options, on_token);
}

std::vector<Answer> generate(const Model& model, const ForwardRunner& runner, const Batch& prompts,
                             at::ScalarType dtype, const GenerateOptions& options,
                             const OnToken& on_token) {
  const std::size_t num_sequences = prompts.text_cu_seqlens.size() - 1;
  std::vector<Answer> answers(num_sequences);
  std::vector<std::int64_t> lengths;
  for (std::size_t b = 0; b < num_sequences; ++b) {
    lengths.push_back(prompts.text_cu_seqlens[b + 1] - prompts.text_cu_seqlens[b]);
  }
  const std::int64_t longest = lengths.empty() ? 0 : *std::ranges::max_element(lengths);
  KvCache cache(model.cache.num_layers, static_cast<std::int64_t>(num_sequences),
                longest + options.max_new_tokens, model.cache.num_kv_heads, model.cache.head_dim,
                at::TensorOptions().dtype(dtype).device(prompts.token_ids_T.device()));

  PassContext context{prompts, PassKind::kNextLogits, &cache};
  at::Tensor logits_BV;
  if (num_sequences > 0 || runner.needs_equal_counts()) logits_BV = runner.run(context).logits;
  cache.advance(lengths);
  std::size_t running = num_sequences;
  for (std::int64_t step = 0; running > 0; ++step) {
    const at::Tensor tokens =
        choose_tokens(logits_BV, options.sampling, static_cast<std::uint64_t>(step));
    for (std::size_t b = 0; b < num_sequences; ++b) {
      Answer& answer = answers[b];
      if (answer.ended) continue;
      const std::int64_t token = tokens.const_data_ptr<std::int64_t>()[b];
      answer.ended = std::find(options.eos_token_ids.begin(), options.eos_token_ids.end(), token) !=
                     options.eos_token_ids.end();
      if (answer.ended) {
        --running;
        continue;
      }
      answer.tokens.push_back(token);
      if (on_token) on_token(b, token);
    }
    if (running == 0 || step + 1 >= options.max_new_tokens) break;
    runner.any(true);
    const Batch next = next_token_batch(prompts, tokens, cache);
    PassContext next_context{next, PassKind::kNextLogits, &cache};
    logits_BV = runner.run(next_context).logits;
    cache.advance(std::vector<std::int64_t>(num_sequences, 1));
  }
  run_along(runner, prompts);
  return answers;
}

}  // namespace gimbal
