#include "gimbal/train/generate.h"

#include <ATen/core/grad_mode.h>

#include <CLI/CLI.hpp>
#include <iostream>

#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/train/build.h"

namespace gimbal::cli {

int run_generate(const Arguments& arguments) {
  CLI::App app;
  std::string model, data, dtype = "float32";
  GenerateOptions options;
  app.add_option("--model", model)->required();
  app.add_option("--data", data)->required();
  app.add_option("--dtype", dtype)->check(CLI::IsMember({"float32", "bfloat16"}));
  app.add_option("--max-new-tokens", options.max_new_tokens)->check(CLI::PositiveNumber);
  app.add_option("--temperature", options.sampling.temperature)->check(CLI::NonNegativeNumber);
  app.add_option("--top-p", options.sampling.top_p)->check(CLI::Range(0.0, 1.0));
  app.add_option("--top-k", options.sampling.top_k)->check(CLI::NonNegativeNumber);
  app.add_option("--seed", options.sampling.seed);
  app.parse(Arguments(arguments.rbegin(), arguments.rend()));

  Runtime runtime = make_runtime(DeviceKind::kAuto, 0, 600);
  const at::NoGradGuard no_grad;
  const Dataset dataset(data);
  BuiltModel built =
      load_model(model, dtype == "bfloat16" ? DType::kBFloat16 : DType::kFloat32, runtime);
  check_dataset_fits(dataset, built.model, model);
  options.eos_token_ids = dataset.model().eos_token_ids;
  const ImageProcessor processor(dataset.image_processor());
  for (std::uint32_t sample = 0; sample < dataset.num_samples(); ++sample) {
    const std::uint32_t samples[] = {sample};
    const std::uint32_t num_tokens[] = {dataset.sample(sample).num_tokens};
    const Batch prompt =
        to_device(collate_prompts(dataset, processor, samples, num_tokens), runtime.device);
    const auto answers = generate(
        built.model, *built.store, prompt, built.compute, options,
        [&](std::size_t, std::int64_t token) {
          std::cout << Json{{"sample", sample}, {"token", token}}.dump() << "\n" << std::flush;
        });
    std::cout << Json{{"sample", sample},
                      {"done", true},
                      {"reason", answers.front().ended ? "eos" : "length"}}
                     .dump()
              << "\n"
              << std::flush;
  }
  return 0;
}

}  // namespace gimbal::cli
