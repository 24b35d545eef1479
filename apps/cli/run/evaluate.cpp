#include "gimbal/train/evaluate.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "apps/cli/run/command.h"
#include "gimbal/base/file.h"
#include "gimbal/base/log.h"
#include "gimbal/config/load.h"
#include "gimbal/train/layout/follow_plan.h"
#include "gimbal/train/report/progress.h"

namespace gimbal::cli {

int run_evaluate(const Arguments& arguments) {
  CLI::App app;
  std::string model, data, json, predictions;
  std::vector<std::string> overrides;
  app.add_option("--model", model)->required();
  app.add_option("--data", data)->required();
  app.add_option("--json", json);
  app.add_option("--predictions", predictions);
  app.add_option("overrides", overrides);
  app.parse(Arguments(arguments.rbegin(), arguments.rend()));
  overrides.push_back("model.path=" + model);
  overrides.push_back("data.eval=" + data);
  StageRecipe stage = load_recipe("", overrides).front();

  const TrainConfig& train = stage.recipe.train;
  Runtime runtime = make_runtime(train.device, train.threads, train.timeout_seconds);
  const Model whole = make_model_of_folder(model);
  stage = follow_plan_mesh(std::move(stage), whole.desc, runtime.comm->size());
  const Recipe& recipe = stage.recipe;
  const std::string given = to_yaml({stage}) + (predictions.empty() ? "" : "with predictions");
  check_same_on_all_ranks(*runtime.comm, given, "set of options");
  const Dataset dataset(data);
  check_dataset_fits(dataset, whole, model);
  const Placement placement(
      *runtime.groups, layout_for_evaluation(recipe, dataset, whole.desc, runtime.comm->size()),
      concat("mesh ", runtime.num_placements++));
  if (runtime.is_main()) {
    for (const std::string& note : layout_notes(recipe.parallel, placement.layout().mesh))
      log_info(note);
  }
  BuiltModel built = load_model(model, recipe.model.dtype, runtime, &placement);
  EvaluateOptions options = evaluate_options(recipe);
  options.predictions = predictions;
  const EvaluationResult result =
      evaluate(dataset, built.model, *built.store, built.compute, runtime, options, &placement);
  if (!runtime.is_main()) return 0;
  Json figures = to_json(result, options);
  figures["model"] = model;
  figures["dataset"] = data;
  figures["mesh"] = to_string(placement.layout().mesh);
  if (!json.empty()) write_file_atomic(json, figures.dump(2) + "\n");
  std::cout << figures.dump() << "\n";
  return 0;
}

}  // namespace gimbal::cli
