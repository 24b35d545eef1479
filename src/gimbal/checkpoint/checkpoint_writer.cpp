#include "gimbal/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "gimbal/base/error.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/checkpoint/sharded/agree.h"
#include "gimbal/checkpoint/sharded/publish.h"
#include "gimbal/checkpoint/sharded/writing_sign.h"

namespace gimbal {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr auto kLeaveWithin = 2s;
constexpr auto kLongestPause = 250ms;
constexpr std::chrono::milliseconds kLongestSignPause = 10s;
constexpr std::size_t kNamedRanks = 8;

}  // namespace

/// One save: a thread that writes this rank's file and, on rank 0, publishes the checkpoint.
class CheckpointWriter::Job {
 public:
  struct Task {
    TrainingState state;
    RankPieces pieces;
    fs::path run_folder;
    std::string mesh;
    int rank = 0, size = 1;
    CheckpointRules rules;
    std::unique_ptr<AtomicFolder> folder;  // on rank 0
  };

  explicit Job(Task task)
      : task_(std::move(task)),
        unfinished_(unfinished_path(checkpoint_path(task_.run_folder, task_.state.step))),
        thread_([this] { run(); }) {}
  ~Job() {
    stop();
    thread_.join();
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  /// A part of the work, with its own error: what follows from it elsewhere is not the cause.
  struct Phase {
    bool is_done = false;
    std::exception_ptr error;
  };
  const Phase& written() const { return written_; }  // this rank's file
  const Phase& published() const { return done_; }   // by rank 0; nothing to do on the others

  std::uint64_t step() const { return step_; }
  /// Whether the checkpoint is visible; known to rank 0 only.
  bool is_published() const { return is_published_; }

  bool failed() const { return failed_; }

  /// Returns at the end of the phase, when any has failed, or after `time`.
  SlowWork wait(const Phase& phase, std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [&] { return phase.is_done || failed_; });
    if (failed_) return SlowWork::kFailed;
    return phase.is_done ? SlowWork::kDone : SlowWork::kRunning;
  }
  std::exception_ptr error_of(const Phase& phase) {
    const std::lock_guard lock(mutex_);
    return phase.error;
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }

 private:
  void run() {
    do_phase(written_, [&] {
      RankFile file;
      {
        std::optional<WritingSign> sign;
        // Several come within the time that rank 0 waits for one.
        if (!task_.folder)
          sign.emplace(unfinished_, task_.rank,
                       std::min(task_.rules.timeout / 4, kLongestSignPause));
        file = write_rank_file(unfinished_, task_.rank, task_.pieces, stop_);
      }
      task_.pieces = {};
      write_done_note(unfinished_, task_.rank, file);
    });
    do_phase(done_, [&] {
      if (!task_.folder || failed_) return;
      wait_for_others();
      publish();
      is_published_ = true;
      if (task_.rules.after_publishing) task_.rules.after_publishing(step_);
      prune_checkpoints(task_.run_folder, task_.rules.keep_last, task_.state.step,
                        task_.rules.keep_every);
    });
  }

  template <typename Work>
  void do_phase(Phase& phase, Work&& work) {
    std::exception_ptr error;
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    phase = {true, error};
    if (error) failed_ = true;
    changed_.notify_all();
  }

  std::vector<SeenSign> look_for_signs() const {
    std::vector<SeenSign> signs;
    for (int rank = 0; rank < task_.size; ++rank) signs.push_back(look_for_sign(unfinished_, rank));
    return signs;
  }

  std::vector<int> missing_ranks() const {
    std::vector<int> missing;
    std::error_code ignored;  // looked at again soon
    for (int rank = 0; rank < task_.size; ++rank) {
      if (!fs::exists(done_note_path(unfinished_, rank), ignored)) missing.push_back(rank);
    }
    return missing;
  }

  void wait_for_others() {
    std::vector<SeenSign> signs = look_for_signs();
    auto deadline = std::chrono::steady_clock::now() + task_.rules.timeout;
    std::chrono::milliseconds pause = 1ms;
    for (std::vector<int> missing = missing_ranks(); !missing.empty(); missing = missing_ranks()) {
      if (std::chrono::steady_clock::now() > deadline) {
        const std::vector<SeenSign> before = std::exchange(signs, look_for_signs());
        std::erase_if(missing, [&](int rank) {
          const auto i = static_cast<std::size_t>(rank);
          return signs[i] != before[i] || fs::exists(done_note_path(unfinished_, rank));
        });
        if (!missing.empty()) throw UserError(late_message(missing));
        deadline = std::chrono::steady_clock::now() + task_.rules.timeout;
      }
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, pause, [&] { return stop_.load(); })) throw InterruptedSave();
      pause = std::min<std::chrono::milliseconds>(2 * pause, kLongestPause);
    }
  }

  std::string late_message(const std::vector<int>& missing) const {
    std::string ranks;
    for (std::size_t i = 0; i < std::min(missing.size(), kNamedRanks); ++i)
      ranks += concat(i == 0 ? "" : ", ", missing[i]);
    if (missing.size() > kNamedRanks)
      ranks += concat(" and ", missing.size() - kNamedRanks, " more");
    return concat(unfinished_.string(), ": no file of rank ", ranks,
                  ", and no sign that it is being written for ",
                  std::chrono::duration<double>(task_.rules.timeout).count(),
                  " s. The run folder has to be on a disk that all ranks see.");
  }

  void publish() {
    std::vector<RankFile> files;
    for (int rank = 0; rank < task_.size; ++rank) {
      files.push_back(read_done_note(unfinished_, rank));
      fs::remove(done_note_path(unfinished_, rank));
    }
    if (task_.rules.before_publishing) task_.rules.before_publishing();
    publish_checkpoint(*task_.folder, task_.state, task_.mesh, files);
  }

  Task task_;
  const std::uint64_t step_ = task_.state.step;
  const fs::path unfinished_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Phase written_, done_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> is_published_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;  // last: it uses the others
};

CheckpointWriter::CheckpointWriter(fs::path run_folder, Comm& world, const MeshShape& mesh,
                                   const CheckpointRules& rules)
    : run_folder_(std::move(run_folder)), world_(world), mesh_(mesh), rules_(rules) {
  GIMBAL_CHECK_EQ(mesh.devices(), world.size(), "ranks of the mesh");
  GIMBAL_CHECK(rules.keep_last > 0, "the last checkpoint is always kept");
  run_slow_together(world_, "leftover checkpoints", [&] {
    if (world_.rank() == 0) remove_unfinished_checkpoints(run_folder_);
  });
}

CheckpointWriter::~CheckpointWriter() { leave_job(); }

void CheckpointWriter::save(const TrainingState& state, const std::vector<FlatShard>& shards,
                            const std::vector<OptimizerTensors>& optimizer) {
  finish();
  Job::Task task{state,         pieces_to_write(shards, optimizer),
                 run_folder_,   to_string(mesh_),
                 world_.rank(), world_.size(),
                 rules_,        nullptr};
  run_together(world_, "checkpoint folder", [&] {
    if (world_.rank() == 0)
      task.folder = std::make_unique<AtomicFolder>(checkpoint_path(run_folder_, state.step));
    if (rules_.background) copies_.take(task.pieces);
  });
  job_ = std::make_unique<Job>(std::move(task));
  if (!rules_.background) finish();
}

void CheckpointWriter::finish() {
  if (!job_) return;
  try {
    // Files first: what a rank could not write is the cause of what rank 0 misses.
    finish_phase(job_->written(), "checkpoint files are written");
    finish_phase(job_->published(), "checkpoint is complete");
    saved_step_ = job_->step();
    job_.reset();
  } catch (const CommError&) {
    leave_job();  // the files of all ranks may be there
    throw;
  } catch (...) {
    job_->stop();
    leave_job();
    throw;
  }
}

template <typename Phase>
void CheckpointWriter::finish_phase(const Phase& phase, const std::string& name) {
  wait_together(world_, name, [&](auto time) { return job_->wait(phase, time); });
  agree_on_error(world_, job_->error_of(phase), name);
}

bool CheckpointWriter::failed() const { return job_ && job_->failed(); }

std::optional<std::uint64_t> CheckpointWriter::saved_step() const {
  if (job_ && job_->is_published()) return job_->step();
  return saved_step_;
}

void CheckpointWriter::leave_job() {
  if (!job_) return;
  job_->wait(job_->published(), kLeaveWithin);
  if (job_->is_published()) saved_step_ = job_->step();
  job_.reset();
}

bool CheckpointWriter::can_save_alone(const std::vector<FlatShard>& shards) const {
  return mesh_.pp == 1 && holds_whole_parameters(shards);
}

void CheckpointWriter::save_alone(const TrainingState& state, const std::vector<FlatShard>& shards,
                                  const std::vector<OptimizerTensors>& optimizer) {
  leave_job();
  if (saved_step_ == state.step) return;
  GIMBAL_CHECK(can_save_alone(shards), "this rank has parts of the parameters only");
  if (rules_.before_publishing) rules_.before_publishing();
  save_checkpoint(run_folder_, state, shards, optimizer, to_string(mesh_));
  saved_step_ = state.step;
  if (rules_.after_publishing) rules_.after_publishing(state.step);
}

}  // namespace gimbal
