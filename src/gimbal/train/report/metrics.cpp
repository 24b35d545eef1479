#include "gimbal/train/report/metrics.h"

#include "gimbal/base/error.h"
#include "gimbal/train/report/cut_log.h"

namespace gimbal {
namespace {

template <typename Field>
std::uint64_t sum_loads(const std::vector<RankLoad>& loads, Field field) {
  std::uint64_t sum = 0;
  for (const RankLoad& load : loads) sum += load.*field;
  return sum;
}

}  // namespace

std::uint64_t StepRecord::samples() const { return sum_loads(loads, &RankLoad::samples); }
std::uint64_t StepRecord::tokens() const { return sum_loads(loads, &RankLoad::tokens); }
std::uint64_t StepRecord::loss_tokens() const { return sum_loads(loads, &RankLoad::loss_tokens); }
std::uint64_t StepRecord::media() const { return sum_loads(loads, &RankLoad::media); }
std::uint64_t StepRecord::vision_rows() const { return sum_loads(loads, &RankLoad::vision_rows); }

Json to_json(const StepRecord& record) {
  const StepTimes& own = record.times.front();
  Json ranks = Json::array();
  for (std::size_t i = 0; i < record.times.size(); ++i) {
    const StepTimes& times = record.times[i];
    const std::size_t data_rank = record.data_ranks.empty() ? i : record.data_ranks[i];
    const RankLoad& load = record.loads[data_rank];
    ranks.push_back({{"rank", i},
                     {"data_rank", data_rank},
                     {"busy_seconds", times.forward + times.backward},
                     {"data_wait_seconds", times.data_wait},
                     {"reduce_wait_seconds", times.reduce_wait},
                     {"samples", load.samples},
                     {"tokens", load.tokens},
                     {"vision_rows", load.vision_rows},
                     {"cost", load.cost}});
  }
  return {{"kind", "train"},
          {"step", record.step},
          {"epoch", record.position.epoch},
          {"step_in_epoch", record.position.step_in_epoch},
          {"loss", record.loss},
          {"lr", record.lr},
          {"grad_norm", record.grad_norm},
          {"samples", record.samples()},
          {"tokens", record.tokens()},
          {"loss_tokens", record.loss_tokens()},
          {"images", record.media()},
          {"vision_rows", record.vision_rows()},
          {"step_seconds", record.seconds},
          {"data_wait_seconds", own.data_wait},
          {"forward_seconds", own.forward},
          {"backward_seconds", own.backward},
          {"reduce_wait_seconds", own.reduce_wait},
          {"optimizer_seconds", own.optimizer},
          {"tokens_per_second", static_cast<double>(record.tokens()) / record.seconds},
          {"images_per_second", static_cast<double>(record.media()) / record.seconds},
          {"flops_per_second", record.flops / record.seconds},
          {"peak_share", record.flops / record.seconds / record.peak_flops},
          {"waste", record.waste},
          {"elapsed_seconds", record.elapsed_seconds},
          {"ranks", std::move(ranks)}};
}

Json samples_line(std::int64_t step, const StepPlan& plan) {
  return {{"step", step},
          {"epoch", plan.position.epoch},
          {"step_in_epoch", plan.position.step_in_epoch},
          {"samples", plan.all_micro_batches}};
}

MetricsWriter::MetricsWriter(std::filesystem::path path, std::int64_t resume_step)
    : path_(std::move(path)) {
  // What is no file, like /dev/null, has nothing to keep.
  if (std::filesystem::is_regular_file(path_)) {
    const std::optional<std::int64_t> last = cut_log(path_, resume_step);
    if (last != resume_step && resume_step > 0) {
      gap_ =
          concat("'", path_.string(), "' ",
                 last ? concat("ends with step ", *last) : std::string("has no step"),
                 ", and the run goes on after step ", resume_step, ": the lines between are lost");
    }
  }
  out_.open(path_, std::ios::app);
  GIMBAL_USER_CHECK(out_, "cannot write '", path_.string(), "'. Is the run folder writable?");
}

void MetricsWriter::write(const Json& line) {
  out_ << line.dump() << "\n" << std::flush;
  GIMBAL_USER_CHECK(out_, "cannot write '", path_.string(), "'. Is the disk full?");
}

}  // namespace gimbal
