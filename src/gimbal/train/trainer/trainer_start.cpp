// How a trainer gets to its first step: packs, store, first weights or a checkpoint, with the state
// that a checkpoint has of it.
#include <cmath>
#include <map>

#include "gimbal/base/error.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/run_checkpoint.h"
#include "gimbal/train/data/run_patterns.h"
#include "gimbal/train/data/sample_order.h"
#include "gimbal/train/trainer/optimizer_tensors.h"
#include "gimbal/train/trainer/trainer.h"
#include "gimbal/train/weights.h"

namespace gimbal {

std::unique_ptr<ParameterStore> Trainer::make_store() {
  StoreSetup setup = placement_.store_setup(model_);
  setup.master = master_dtype(recipe_.model.dtype);
  setup.compute = compute_dtype(recipe_.model.dtype);
  setup.device = runtime_.device;
  setup.group_of = [this](const Parameter& parameter) { return groups_.group_of(parameter); };
  return make_sharded_store(model_.blocks, setup);
}

void Trainer::check_same_weights() {
  const MeshCoordinates& at = placement_.mesh().at();
  const std::string own =
      concat(at.pp, " ", at.dp_shard, " ", at.tp, ": step ", step_, ", epoch ", position_.epoch,
             " step ", position_.step_in_epoch, ", weights ", weights_fingerprint(*store_));
  std::map<std::string, std::pair<int, std::string>> first_of_place;
  const std::vector<std::string> all =
      all_gather_bytes(*runtime_.comm, own, "check checkpoint or first weights");
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const std::string place = all[rank].substr(0, all[rank].find(':'));
    const auto [first, is_new] =
        first_of_place.try_emplace(place, static_cast<int>(rank), all[rank]);
    GIMBAL_USER_CHECK(first->second.second == all[rank], "rank ", rank,
                      " has another checkpoint or other first weights than rank ",
                      first->second.first,
                      ", which holds the same parameters. All ranks have to "
                      "see the same files.");
  }
}

void Trainer::make_planner(bool has_checkpoint) {
  const SampleSizes sizes = sample_sizes(rows_);
  SamplerOptions options = sampler_options(recipe_, dataset_, model_.desc);
  options.patterns = patterns_of_run(sizes, options, run_folder_, has_checkpoint, *runtime_.comm);
  planner_ = std::make_unique<StepPlanner>(
      dataset_, sizes, std::move(options), recipe_.balance.micro_batches,
      placement_.mesh().data_rank(), placement_.mesh().num_data_ranks());
  const RunLayout& layout = placement_.layout();
  if (layout.needs_equal_counts()) {
    planner_->pad_micro_batches(
        [&layout](std::size_t count) { return layout.padded_micro_batches(count); });
  }
}

std::string Trainer::order_fingerprint() const {
  return gimbal::order_fingerprint(recipe_, planner_->patterns_fingerprint());
}

void Trainer::start_weights() {
  if (previous_run_) {
    const auto checkpoint = find_latest_checkpoint(*previous_run_, *runtime_.comm);
    GIMBAL_USER_CHECK(checkpoint, "the stage before, '", previous_run_->string(),
                      "', has no complete checkpoint to start from");
    load_checkpoint_weights(*checkpoint, store_->shards(), *runtime_.comm, VerifyFirst::kNo);
    store_->values_changed();
  } else if (recipe_.model.init == WeightInit::kRandom) {
    init_weights(*store_, static_cast<std::uint64_t>(recipe_.train.seed));
  } else {
    load_hf_weights(model_, *store_, recipe_.model.path);
  }
}

bool Trainer::resume(const std::optional<std::filesystem::path>& latest) {
  if (!latest) return false;
  GIMBAL_USER_CHECK(recipe_.train.resume, "the run folder '", run_folder_.string(),
                    "' holds checkpoints and train.resume is false. Choose another train.run, "
                    "remove the folder, or set train.resume=true.");
  const TrainingState state = load_checkpoint(
      *latest, store_->shards(), optimizer_tensors(optimizer_), *runtime_.comm, VerifyFirst::kNo);
  GIMBAL_USER_CHECK(
      state.dataset_fingerprint == dataset_.fingerprint(), "the run in '", run_folder_.string(),
      "' was trained on other data than '", recipe_.data.train,
      "' holds now. Choose another train.run, or give the dataset that the run began with.");
  GIMBAL_USER_CHECK(
      state.recipe_fingerprint == order_fingerprint(), "the run in '", run_folder_.string(),
      "' cannot go on: this recipe gives another order of samples than it has used:",
      order_changes(state.recipe_fingerprint, order_fingerprint()), "\nSet back what has changed",
      plan_ ? " (with train.plan: follow its plan)" : "",
      ", or choose another train.run to start anew.");
  optimizer_.set_step_count(state.optimizer_steps);
  store_->values_changed();
  step_ = saved_step_ = resumed_step_ = static_cast<std::int64_t>(state.step);
  position_ = {state.epoch, state.step_in_epoch};
  samples_seen_ = state.samples;
  tokens_seen_ = state.tokens;
  elapsed_seconds_ = static_cast<double>(state.elapsed_milliseconds) / 1000;
  loss_tokens_seen_ = state.loss_tokens;
  if (runtime_.is_main()) log_info("resuming from " + latest->string());
  return true;
}

TrainingState Trainer::training_state() const {
  TrainingState state;
  state.step = static_cast<std::uint64_t>(step_);
  state.stage = recipe_.name;
  state.epoch = position_.epoch;
  state.step_in_epoch = position_.step_in_epoch;
  state.seed = static_cast<std::uint64_t>(recipe_.train.seed);
  state.optimizer_steps = optimizer_.step_count();
  state.samples = samples_seen_;
  state.tokens = tokens_seen_;
  state.elapsed_milliseconds = static_cast<std::uint64_t>(std::llround(1000 * elapsed_seconds_));
  state.loss_tokens = loss_tokens_seen_;
  state.dataset_fingerprint = dataset_.fingerprint();
  state.recipe_fingerprint = order_fingerprint();
  return state;
}

std::int64_t Trainer::count_total_steps() {
  if (recipe_.train.max_steps > 0) return recipe_.train.max_steps;
  const double left = recipe_.train.epochs;
  std::int64_t total = 0;
  // From the last epoch to the first: the planner keeps the one it has packed last.
  for (auto epoch = static_cast<std::uint64_t>(std::ceil(left - 1e-9)); epoch-- > 0;) {
    const double share = std::min(1.0, left - static_cast<double>(epoch));
    total += static_cast<std::int64_t>(
        std::llround(share * static_cast<double>(planner_->steps_in(epoch))));
  }
  return std::max<std::int64_t>(total, 1);
}

}  // namespace gimbal
