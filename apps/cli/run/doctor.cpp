#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <torch/version.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <thread>

#include "apps/cli/run/command.h"
#include "gimbal/base/json.h"
#include "gimbal/profile/gemm_peak.h"

#include "gimbal/train/build.h"
#include "gimbal/train/progress.h"

namespace gimbal::cli {

int run_doctor(const Arguments& arguments) {
  CLI::App app;
  bool json = false;
  app.add_flag("--json", json);
  app.parse(Arguments(arguments.rbegin(), arguments.rend()));
  Runtime runtime = make_runtime(DeviceKind::kAuto, 0, 600);
  runtime.comm->barrier("doctor");
  Json facts{
      {"gimbal", GIMBAL_VERSION},
      {"torch", TORCH_VERSION},
      {"device", runtime.device.str()},
      {"processes", runtime.comm->size()},
      {"launcher", runtime.launch.launcher},
      {"cores", std::thread::hardware_concurrency()},
      {"threads", at::get_num_threads()},
      {"gemm_peak_float32", measure_gemm_peak(at::kFloat, runtime.device).flops_per_second},
      {"gemm_peak_bfloat16", measure_gemm_peak(at::kBFloat16, runtime.device).flops_per_second}};
  if (!runtime.is_main()) return 0;
  if (json) {
    std::cout << facts.dump() << "\n";
    return 0;
  }
  for (const auto& [key, value] : facts.items()) {
    const bool speed = key.starts_with("gemm");
    std::cout << key << ": "
              << (speed ? format_quantity(value.get<double>()) + "FLOP/s" : value.dump()) << "\n";
  }
  return 0;
}

}  // namespace gimbal::cli
