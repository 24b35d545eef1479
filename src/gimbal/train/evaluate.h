// Loss and exact match on a held-out dataset.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "gimbal/base/json.h"
#include "gimbal/config/recipe.h"
#include "gimbal/models/model.h"
#include "gimbal/train/build.h"
#include "gimbal/train/layout/placement.h"
#include "gimbal/train/layout/run_layout.h"

namespace gimbal {

struct EvaluateOptions {
  std::int64_t text_cap =
      4096;  // most tokens in a pack, and most prompt tokens that are continued together
  std::int64_t vision_cap = 0;   // the same for tiles; 0: no cap
  std::int64_t max_samples = 0;  // 0: all; else that many, evenly spread over the dataset
  std::int64_t max_new_tokens = 64;
  bool generate = true;
  std::int64_t loss_chunk_rows = 1024;
  std::int64_t workers = 1;
  std::filesystem::path predictions;  // jsonl, one line per answer; empty: not written
};

/// What the recipe's sections evaluate, balance, train and data say.
EvaluateOptions evaluate_options(const Recipe& recipe);

struct EvaluationResult {
  double loss = 0;  // mean over all loss tokens
  std::uint64_t loss_tokens = 0;
  std::uint64_t samples = 0;
  std::uint64_t answers = 0;  // assistant turns that were generated
  std::uint64_t matches = 0;
  double seconds = 0;
  bool interrupted = false;  // a rank has received a stop signal: nothing of the above is complete

  double exact_match() const {
    return answers == 0 ? 0.0 : static_cast<double>(matches) / static_cast<double>(answers);
  }
};

Json to_json(const EvaluationResult& result, const EvaluateOptions& options);

/// How a model that is only evaluated is spread over `world_size` processes. Throws UserError as
/// make_run_layout does.
RunLayout layout_for_evaluation(const Recipe& recipe, const Dataset& dataset,
                                const ModelDesc& model, int world_size);

/// Collective. Exact match: each assistant turn is generated greedily after the reference
/// conversation before it, and counts when its tokens equal the reference. Generation stops once
/// the outcome is certain: at the length of the longest reference of its group plus one.
/// `placement`: how the model is spread over the processes; null: every process has all of it.
/// After a stop signal (install_stop_signals) on any rank it ends early on all, about a second
/// later or after the pass under way, without predictions: `interrupted`. Throws UserError when the
/// ranks do not all have the same dataset.
EvaluationResult evaluate(const Dataset& dataset, const Model& model, ParameterStore& store,
                          at::ScalarType dtype, Runtime& runtime, const EvaluateOptions& options,
                          const Placement* placement = nullptr);

}  // namespace gimbal
