#include <CLI/CLI.hpp>
#include <iostream>

#include "apps/cli/run/command.h"
#include "gimbal/base/error.h"
#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/export_note.h"
#include "gimbal/train/export_run.h"

namespace gimbal::cli {

int run_export(const Arguments& arguments) {
  CLI::App app;
  std::string run, out, checkpoint;
  app.add_option("RUN", run)->required();
  app.add_option("--out", out)->required();
  app.add_option("--checkpoint", checkpoint);
  app.parse(Arguments(arguments.rbegin(), arguments.rend()));
  const ExportedRun exported = export_run(run, checkpoint, out);
  if (exported.replaced_step)
    log_info(replaced_export_text(out, exported.step, *exported.replaced_step));
  std::cout << Json{{"model", out}, {"step", exported.step}}.dump() << "\n";
  return 0;
}

}  // namespace gimbal::cli
