#include "gimbal/train/preflight.h"

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/train/tape/block_levels.h"
#include "gimbal/train/trainer/parameter_groups.h"

namespace gimbal {
namespace {

/// Screens the samples as the sampler will. Mini-batches of random and like lengths know no caps.
void check_caps(const Dataset& dataset, const SamplerOptions& options) {
  if (options.method == PackMethod::kRandom || options.method == PackMethod::kLength) return;
  const std::vector<std::uint32_t> rows = sample_rows(dataset);
  const std::string data = "dataset '" + dataset.folder().string() + "'";
  Screening screening;
  try {
    screening = screen_samples(PackLimits(sample_sizes(rows), options.caps, options.costs),
                               options.oversize, options.describe);
  } catch (const UserError& error) {
    throw UserError(data + ": " + error.what());
  }
  GIMBAL_USER_CHECK(screening.rejected.size() < dataset.num_samples(), data,
                    ": every sample is above a cap, and balance.oversize is reject: nothing is "
                    "left to train on. Raise balance.text_cap or balance.vision_cap.");
}

}  // namespace

Model model_for_training(const Recipe& recipe, const Ports& ports) {
  Model model = make_model_of_folder(recipe.model.path, ports);
  freeze_parameters(model, recipe.model.freeze);
  const std::vector<ParameterPtr> parameters = model.parameters();
  GIMBAL_USER_CHECK(std::any_of(parameters.begin(), parameters.end(),
                                [](const ParameterPtr& parameter) { return parameter->trainable; }),
                    "model.freeze matches every parameter of the model: nothing is left to train");
  return model;
}

RunLayout layout_for_training(const Recipe& recipe, const Dataset& dataset, const Model& model,
                              int world_size) {
  // Cuts need the proportions of the work only.
  LayoutWork work;
  for (std::uint32_t i = 0; i < dataset.num_samples(); ++i)
    work.mean = work.mean + work_of_samples(dataset, std::span(&i, 1));
  work.frozen = frozen_blocks(model);
  work.levels = block_levels(recipe.model, model.desc);
  return make_run_layout(recipe.parallel, model.desc, work, world_size, recipe.model.path);
}

std::vector<bool> frozen_blocks(const Model& model) {
  std::vector<bool> frozen;
  for (const auto& block : model.blocks) {
    frozen.push_back(std::ranges::none_of(
        block->parameters(), [](const ParameterPtr& parameter) { return parameter->trainable; }));
  }
  return frozen;
}

void check_stage(const Recipe& recipe, int world_size) {
  const Model model = model_for_training(recipe);
  const ParameterGroups groups(recipe.optimizer, model.parameters());
  block_levels(recipe.model, model.desc);
  const Dataset dataset(recipe.data.train);
  check_dataset_fits(dataset, model, recipe.model.path);
  layout_for_training(recipe, dataset, model, world_size);
  check_caps(dataset, sampler_options(recipe, dataset, model.desc));
  if (!recipe.data.eval.empty())
    check_dataset_fits(Dataset(recipe.data.eval), model, recipe.model.path);
}

}  // namespace gimbal
