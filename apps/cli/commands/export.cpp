// gimbal export: a run's checkpoint as a Hugging Face model folder.
#include <filesystem>

#include "apps/cli/command.h"
#include "apps/cli/process.h"
#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

int run_export(const Arguments& arguments) {
  CLI::App app("Write a run's checkpoint as a Hugging Face model folder.", "gimbal export");
  std::string run;
  std::string out;
  std::string checkpoint;
  app.add_option("RUN", run, "Run folder")->required()->option_text("FOLDER");
  app.add_option("--out", out, "Model folder to write; an earlier export there is replaced")
      ->required()
      ->option_text("FOLDER");
  app.add_option("--checkpoint", checkpoint,
                 "A checkpoint of RUN: its step, its name in RUN/checkpoints or its path "
                 "(default: the newest complete one)")
      ->option_text("STEP");
  app.footer(
      "Examples:\n"
      "  gimbal export runs/demo --out models/demo\n"
      "  gimbal export runs/demo --out models/demo-100 --checkpoint 100\n");
  parse(app, arguments);

  GIMBAL_USER_CHECK(std::filesystem::is_directory(run), "RUN: '", run, "' is no folder");
  Arguments words = {"export", run, "--out", out};
  if (!checkpoint.empty()) words.insert(words.end(), {"--checkpoint", checkpoint});
  exec_run(words);
}

}  // namespace

Command export_command() {
  return {"export", "Write a run's checkpoint as a Hugging Face folder", run_export};
}

}  // namespace gimbal::cli
