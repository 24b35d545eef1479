// The checkpoints of a run: finding the last one, removing old ones.
#include <algorithm>
#include <cerrno>
#include <sstream>
#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/checkpoint/sharded/agree.h"
#include "gimbal/checkpoint/sharded/publish.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStepPrefix = "step-";
constexpr std::string_view kUnfinished = ".partial";
constexpr std::string_view kReplaced = ".partial.replaced";  // see AtomicFolder

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

// The checkpoint that a killed process has left this of; empty: it is something else.
fs::path checkpoint_of_leftover(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kStepPrefix)) return {};
  for (const std::string_view ending : {kUnfinished, kReplaced}) {
    if (name.ends_with(ending))
      return path.parent_path() / name.substr(0, name.size() - ending.size());
  }
  return {};
}

// What is wrong with the checkpoint; empty: nothing. Throws when that cannot be known now: to go
// back past a checkpoint because a disk is away for a moment would lose its steps.
std::string damage_of(const fs::path& checkpoint, int part, int parts) {
  try {
    verify_checkpoint(checkpoint, part, parts);
  } catch (const FileError& error) {
    const bool is_missing = error.code() == ENOENT || error.code() == ENOTDIR;
    GIMBAL_USER_CHECK(is_missing, error.what(), ". The checkpoint ", checkpoint.string(),
                      " may be good: make it readable, or move the folder away to go on from the "
                      "one before.");
    return error.what();
  } catch (const UserError& error) {
    return error.what();
  }
  return {};
}

}  // namespace

std::optional<fs::path> find_latest_checkpoint(const fs::path& run_folder) {
  return find_latest_checkpoint(run_folder, *make_single_comm());
}

std::optional<fs::path> find_latest_checkpoint(const fs::path& run_folder, Comm& world) {
  // Rank 0 says which there are: others may see a folder earlier or later.
  std::string names;
  run_together(world, "list of checkpoints", [&] {
    if (world.rank() != 0) return;
    for (const StepFolder& folder : list_steps(run_folder))
      names += folder.path.filename().string() + "\n";
  });
  std::istringstream lines(all_gather_bytes(world, names, "list of checkpoints").front());
  for (std::string name; std::getline(lines, name);) {
    const fs::path path = run_folder / "checkpoints" / name;
    const std::string what = "verification of " + name;
    std::string reason;
    run_slow_together(world, what, [&] { reason = damage_of(path, world.rank(), world.size()); });
    // Damage that one rank has found counts for all.
    const auto reasons = all_gather_bytes(world, reason, what);
    const auto damage = std::ranges::find_if(reasons, [](const auto& r) { return !r.empty(); });
    if (damage == reasons.end()) return path;
    if (world.rank() == 0)
      log_warning(concat("checkpoint ", path.string(), " is not used: ", *damage));
  }
  return std::nullopt;
}

void remove_unfinished_checkpoints(const fs::path& run_folder) {
  for (const fs::path& path : list_checkpoints_folder(run_folder)) {
    const fs::path checkpoint = checkpoint_of_leftover(path);
    if (!checkpoint.empty()) AtomicFolder::clear_leftovers(checkpoint);
  }
}

void prune_checkpoints(const fs::path& run_folder, std::size_t keep_last,
                       std::uint64_t current_step, std::uint64_t keep_every) {
  GIMBAL_CHECK(keep_last > 0, "the last checkpoint is always kept");
  remove_unfinished_checkpoints(run_folder);
  std::size_t complete = 0;
  for (const StepFolder& folder : list_steps(run_folder)) {
    // state.json is written last; an incomplete checkpoint must not push out a complete one.
    const bool is_complete = fs::exists(folder.path / "state.json");
    if (folder.step > current_step) {
      set_aside(folder.path, concat("the run has gone back past it and is at step ", current_step));
      continue;
    }
    if (complete < keep_last) {
      complete += is_complete ? 1 : 0;
      continue;
    }
    if (keep_every > 0 && folder.step % keep_every == 0) continue;
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
