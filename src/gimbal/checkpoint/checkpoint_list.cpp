// The checkpoints of a run: finding the last one, removing old ones.
#include <algorithm>
#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/run_checkpoint.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kUnfinished = ".partial";
constexpr std::string_view kReplaced = ".old";

struct StepFolder {
  std::uint64_t step;
  fs::path path;
};

// Entries of RUN/checkpoints, in the order of their names. None when there is no such folder.
std::vector<fs::path> list_checkpoints_folder(const fs::path& run_folder) {
  const fs::path folder = run_folder / "checkpoints";
  std::vector<fs::path> out;
  std::error_code error;
  if (!fs::exists(folder, error) && !error) return out;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    out.push_back(it->path());
  GIMBAL_USER_CHECK(!error, folder.string(), ": cannot list the checkpoints: ", error.message());
  std::sort(out.begin(), out.end());
  return out;
}

// Newest first. Names other than step-<digits> are not ours.
std::vector<StepFolder> list_steps(const fs::path& run_folder) {
  std::vector<StepFolder> out;
  for (const fs::path& path : list_checkpoints_folder(run_folder)) {
    const std::string name = path.filename().string();
    if (!name.starts_with(kStepPrefix)) continue;
    const std::string digits = name.substr(kStepPrefix.size());
    if (digits.empty() || digits.size() > 19 ||
        digits.find_first_not_of("0123456789") != std::string::npos)
      continue;
    out.push_back({std::stoull(digits), path});
  }
  std::sort(out.begin(), out.end(),
            [](const StepFolder& a, const StepFolder& b) { return a.step > b.step; });
  return out;
}

void remove_folder(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  GIMBAL_USER_CHECK(!error, path.string(), ": cannot remove the old checkpoint: ", error.message());
}

}  // namespace

std::optional<fs::path> find_latest_checkpoint(const fs::path& run_folder) {
  for (const StepFolder& folder : list_steps(run_folder)) {
    try {
      verify_checkpoint(folder.path);
      return folder.path;
    } catch (const UserError& error) {
      log_warning(concat("checkpoint ", folder.path.string(), " is not used: ", error.what()));
    }
  }
  return std::nullopt;
}

void prune_checkpoints(const fs::path& run_folder, std::size_t keep_last,
                       std::uint64_t current_step) {
  GIMBAL_CHECK(keep_last > 0, "the last checkpoint is always kept");
  for (const fs::path& path : list_checkpoints_folder(run_folder)) {
    const std::string name = path.filename().string();
    if (name.starts_with(kStepPrefix) && (name.ends_with(kUnfinished) || name.ends_with(kReplaced)))
      remove_folder(path);
  }
  std::size_t complete = 0;
  for (const StepFolder& folder : list_steps(run_folder)) {
    // state.json is written last; an incomplete checkpoint must not push out a complete one.
    const bool is_complete = fs::exists(folder.path / "state.json");
    // A later one than the run has reached was found damaged, and the run has gone back past it.
    if (complete < keep_last && folder.step <= current_step) {
      complete += is_complete ? 1 : 0;
      continue;
    }
    // Under another name first: a removal that is cut short leaves no half checkpoint under a valid
    // name.
    const fs::path doomed = folder.path.string() + std::string(kUnfinished);
    std::error_code error;
    fs::rename(folder.path, doomed, error);
    GIMBAL_USER_CHECK(!error, folder.path.string(),
                      ": cannot remove the old checkpoint: ", error.message());
    remove_folder(doomed);
  }
}

}  // namespace gimbal
