#include <CLI/CLI.hpp>
#include <iostream>

#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/train/export_run.h"

namespace gimbal::cli {

int run_export(const Arguments& arguments) {
  CLI::App app;
  std::string run, out, checkpoint;
  app.add_option("RUN", run)->required();
  app.add_option("--out", out)->required();
  app.add_option("--checkpoint", checkpoint);
  app.parse(Arguments(arguments.rbegin(), arguments.rend()));
  const std::int64_t step = export_run(run, checkpoint, out);
  std::cout << Json{{"model", out}, {"step", step}}.dump() << "\n";
  return 0;
}

}  // namespace gimbal::cli
