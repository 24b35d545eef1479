#include "gimbal/train/preflight.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/train/parameter_groups.h"

namespace gimbal {
namespace {

constexpr std::size_t kListed = 10;

/// Every sample has to fit into a pack by itself. Random groups know no caps.
void check_caps(const Dataset& dataset, const Recipe& recipe) {
  if (recipe.balance.method == BalanceMethod::kRandom) return;
  const std::int64_t text_cap = recipe.balance.text_cap;
  const std::int64_t vision_cap = recipe.balance.vision_cap;
  std::string list;
  std::size_t count = 0;
  for (std::size_t i = 0; i < dataset.num_samples(); ++i) {
    const SampleRecord& record = dataset.sample(i);
    const bool fits =
        record.num_tokens <= text_cap && (vision_cap == 0 || record.vision_rows <= vision_cap);
    if (fits || ++count > kListed) continue;
    list += concat("\n  ", dataset.describe_sample(i), ": ", record.num_tokens, " tokens, ",
                   record.vision_rows, " vision rows");
  }
  if (count > kListed) list += concat("\n  and ", count - kListed, " more");
  GIMBAL_USER_CHECK(count == 0, "dataset '", dataset.folder().string(), "': ", count,
                    count == 1 ? " sample does" : " samples do",
                    " not fit into a pack (balance.text_cap ", text_cap, ", balance.vision_cap ",
                    vision_cap, "). Raise the cap, or prepare the data with --max-tokens:", list);
}

}  // namespace

Model model_for_training(const Recipe& recipe) {
  Model model = make_model_of_folder(recipe.model.path);
  freeze_parameters(model, recipe.model.freeze);
  const std::vector<ParameterPtr> parameters = model.parameters();
  GIMBAL_USER_CHECK(std::any_of(parameters.begin(), parameters.end(),
                                [](const ParameterPtr& parameter) { return parameter->trainable; }),
                    "model.freeze matches every parameter of the model: nothing is left to train");
  return model;
}

void check_stage(const Recipe& recipe) {
  const Model model = model_for_training(recipe);
  const ParameterGroups groups(recipe.optimizer, model.parameters());
  tape_levels(recipe.model, model);
  const Dataset dataset(recipe.data.train);
  check_dataset_fits(dataset, model, recipe.model.path);
  sampler_options(recipe, dataset, model.desc);
  check_caps(dataset, recipe);
  if (!recipe.data.eval.empty())
    check_dataset_fits(Dataset(recipe.data.eval), model, recipe.model.path);
}

}  // namespace gimbal
