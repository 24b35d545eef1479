// Text generation with a key-value cache, many prompts at once.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "gimbal/models/model.h"
#include "gimbal/parallel/store.h"
#include "gimbal/train/tape/forward_runner.h"

namespace gimbal {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  double top_p = 1;
  std::int64_t top_k = 0;  // 0: all tokens
  std::uint64_t seed = 0;
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 64;
  std::vector<std::int64_t> eos_token_ids;
  SamplingOptions sampling;
};

/// One answer: its tokens without the end-of-sequence token, and whether that token ended it.
struct Answer {
  std::vector<std::int64_t> tokens;
  bool ended = false;
};

/// Called for each new token (sequence, token), in order of generation; end-of-sequence tokens are
/// not reported.
using OnToken = std::function<void(std::size_t sequence, std::int64_t token)>;

/// Continues every sample of `prompts` (a batch of whole prompts). Runs without gradients.
/// Collective over the ranks of the runner, all of which get the answers; ranks that need equally
/// many passes go on until the last of them has its answers.
std::vector<Answer> generate(const Model& model, const ForwardRunner& runner, const Batch& prompts,
                             at::ScalarType dtype, const GenerateOptions& options,
                             const OnToken& on_token = {});
/// In a process that has the whole model.
std::vector<Answer> generate(const Model& model, ParameterStore& store, const Batch& prompts,
                             at::ScalarType dtype, const GenerateOptions& options,
                             const OnToken& on_token = {});

/// The next token of each row of logits [B, V]: int64 [B] on the CPU. `draw` numbers the random
/// draws of each sequence.
at::Tensor choose_tokens(const at::Tensor& logits_BV, const SamplingOptions& options,
                         std::uint64_t draw);

}  // namespace gimbal
