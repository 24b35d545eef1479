// gimbal export: a run's last checkpoint as a Hugging Face model folder.
#include <filesystem>

#include "apps/cli/command.h"
#include "apps/cli/process.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

int run_export(const Arguments& arguments) {
  CLI::App app("Write a run's last checkpoint as a Hugging Face model folder.", "gimbal export");
  std::string run;
  std::string out;
  app.add_option("RUN", run, "Run folder")->required()->option_text("FOLDER");
  app.add_option("--out", out, "Model folder to write")->required()->option_text("FOLDER");
  app.footer("Example:\n  gimbal export runs/demo --out models/demo\n");
  parse(app, arguments);

  GIMBAL_USER_CHECK(std::filesystem::is_directory(run), "RUN: '", run, "' is no folder");
  exec_run({"export", run, "--out", out});
}

}  // namespace

Command export_command() {
  return {"export", "Write a run's checkpoint as a Hugging Face folder", run_export};
}

}  // namespace gimbal::cli
