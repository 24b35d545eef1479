#include "gimbal/checkpoint/sharded/publish.h"

#include <cstdio>

#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/base/sha256.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/checkpoint/sharded/state_file.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;

// A checkpoint with a hole must never take the place of one that can be loaded.
void check_complete(const SavedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    try {
      tensor.piece_map(concat("'", name, "'"));
    } catch (const UserError& error) {
      throw InternalError(concat("the ranks' pieces do not make up the tensor ", error.what()));
    }
  }
}

bool is_name_taken(const fs::path& path) {
  std::error_code ignored;  // what cannot be looked at is there
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

// One of this step that the run could not go on from must not be lost when it is replaced.
void set_aside_unless_good(const fs::path& checkpoint) {
  if (!is_name_taken(checkpoint)) return;
  try {
    verify_checkpoint(checkpoint);
  } catch (const UserError& error) {
    set_aside(checkpoint, error.what());
  }
}

}  // namespace

fs::path checkpoint_path(const fs::path& run_folder, std::uint64_t step) {
  char name[32];
  std::snprintf(name, sizeof(name), "step-%08llu", static_cast<unsigned long long>(step));
  return run_folder / "checkpoints" / name;
}

fs::path unfinished_path(const fs::path& checkpoint) { return checkpoint.string() + ".partial"; }

void set_aside(const fs::path& checkpoint, const std::string& reason) {
  fs::path unused = checkpoint.string() + ".unused";
  for (int number = 2; is_name_taken(unused); ++number)
    unused = concat(checkpoint.string(), ".unused-", number);
  std::error_code error;
  fs::rename(checkpoint, unused, error);
  GIMBAL_USER_CHECK(!error, checkpoint.string(), ": cannot rename it to ", unused.string(), ": ",
                    error.message());
  log_warning(concat("checkpoint ", checkpoint.string(), " is now ", unused.string(), ": ", reason,
                     ". It is not used and not removed."));
}

void publish_checkpoint(AtomicFolder& folder, const TrainingState& state, const std::string& mesh,
                        const std::vector<RankFile>& files) {
  CheckpointIndex index;
  StateFile out{2, state, mesh, {}};
  for (const RankFile& file : files) {
    add_pieces(index.parameters, file.index.parameters);
    add_pieces(index.optimizer, file.index.optimizer);
    out.files[file.file] = {file.bytes, file.sha256};
  }
  check_complete(index.parameters);
  check_complete(index.optimizer);
  const std::string text = to_json(index).dump() + "\n";
  OutputFile index_file(folder.path() / kIndexFile);
  index_file.write(text.data(), text.size());
  index_file.close();
  out.files[kIndexFile] = {text.size(), sha256_of(text)};
  write_state_file(folder.path(), out);
  set_aside_unless_good(folder.final_path());
  folder.commit();
}

}  // namespace gimbal
