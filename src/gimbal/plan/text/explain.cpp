// Why a plan is what it is. Every figure is computed: neighbours of the plan go through the same
// simulator as the plan itself.
#include "gimbal/plan/text/explain.h"

#include <algorithm>
#include <cmath>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"
#include "gimbal/plan/search/cap_candidates.h"
#include "gimbal/plan/search/evaluator.h"
#include "gimbal/plan/search/predict.h"
#include "gimbal/plan/text/figures.h"

namespace gimbal {
namespace {

/// Below this share of a step nothing is worth a sentence.
constexpr double kWorthTelling = 0.005;

// Tells about one plan; collects sentences.
class Explanation {
 public:
  Explanation(const PlanInput& input, const PlanResult& result)
      : input_(input),
        result_(result),
        plan_(result.best),
        evaluator_(input),
        candidate_(candidate_of(result.best)) {
    PackCaps caps;
    caps.rows = plan_.caps;
    caps.rows.resize(2);
    packed_ = *pack_all(input, caps, plan_.packs_per_step);
    problem_ = evaluator_.cut_problem(candidate_, packed_);
  }

  std::string text() {
    tell_result();
    tell_parts();
    if (plan_.layout.num_stages() > 1) tell_slowest_stage();
    tell_memory();
    tell_recompute();
    tell_bubble();
    tell_imbalance();
    tell_communication();
    tell_alternatives();
    return text_ + passes();
  }

 private:
  template <typename... Args>
  void tell(Args&&... parts) {
    text_ += "- " + concat(std::forward<Args>(parts)...) + "\n";
  }

  const StepTime& step() const { return plan_.prediction.step; }
  double share(Seconds part) const { return part / step().seconds; }

  Seconds simulated(const StageLayout& layout) {
    return evaluator_.simulate(candidate_, layout, packed_, kPredictedSteps).time.seconds;
  }

  // "1.2 % slower", "0.3 % faster", of a step.
  std::string against_step(Seconds seconds) const {
    const double ratio = seconds / step().seconds - 1;
    return percent_text(std::abs(ratio)) + (ratio < 0 ? " faster" : " slower");
  }

  void tell_result() {
    const Prediction& own = plan_.prediction;
    tell("A step of ", count_text(static_cast<std::uint64_t>(own.samples_per_step + 0.5)),
         " samples is predicted to take ", seconds_text(step().seconds), " with ",
         choice_text(plan_), ".");
    tell("With this mesh, these packs and this schedule no cut and no recompute can get below ",
         seconds_text(own.bound.seconds()), " (", bound_name(own.bound), "); the plan is ",
         percent_text(bound_gap(own)), " above.");
    const Seconds per_sample = step().seconds / own.samples_per_step;
    if (result_.bound_per_sample > 0) {
      tell("Searched: ", count_text(result_.num_candidates), " candidates, ",
           count_text(result_.num_meshes), result_.num_meshes == 1 ? " mesh" : " meshes",
           "; the least bound of all is ", seconds_text(result_.bound_per_sample),
           " for a sample, and the plan needs ", seconds_text(per_sample), ".");
    }
  }

  void tell_parts() {
    const StepTime& time = step();
    const std::vector<std::pair<const char*, Seconds>> losses = {
        {"recompute", time.recompute},
        {"communication that nothing hides", time.communication},
        {"the bubble of the pipeline", time.bubble},
        {"unlike stages, packs and ranks", time.imbalance}};
    const auto largest =
        std::max_element(losses.begin(), losses.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    std::string sentence =
        "Of the step " + percent_text(share(time.compute)) + " is work that training needs";
    if (share(largest->second) >= kWorthTelling) {
      sentence += concat("; the largest loss is ", largest->first, " (",
                         percent_text(share(largest->second)), ")");
    }
    tell(sentence, ".");
  }

  Seconds seconds_of(const StageLayout& layout, std::size_t stage) const {
    return stage_seconds(*problem_.costs, layout, stage, packed_.mean);
  }

  std::size_t slowest(const StageLayout& layout) const {
    std::size_t worst = 0;
    for (std::size_t s = 1; s < layout.num_stages(); ++s) {
      if (seconds_of(layout, s) > seconds_of(layout, worst)) worst = s;
    }
    return worst;
  }

  void tell_slowest_stage() {
    const StageLayout& layout = plan_.layout;
    const std::size_t worst = slowest(layout);
    Seconds sum = 0;
    for (std::size_t s = 0; s < layout.num_stages(); ++s) sum += seconds_of(layout, s);
    const Seconds mean = sum / static_cast<double>(layout.num_stages());
    tell("Stage ", worst, " is the slowest: ", seconds_text(seconds_of(layout, worst)),
         " for a mean micro-batch, ", percent_text(seconds_of(layout, worst) / mean - 1),
         " above the mean of the stages.");
    const std::size_t begin = layout.stage_begin[worst], end = layout.stage_begin[worst + 1];
    if (end - begin < 2) {
      tell("It has one block, ", plan_.blocks[begin], ", so nothing can be moved out of it.");
      return;
    }
    if (worst > 0) {
      StageLayout moved = layout;
      ++moved.stage_begin[worst];
      tell_move(moved, "first block " + plan_.blocks[begin], worst - 1);
    }
    if (worst + 1 < layout.num_stages()) {
      StageLayout moved = layout;
      --moved.stage_begin[worst + 1];
      tell_move(moved, "last block " + plan_.blocks[end - 1], worst + 1);
    }
  }

  void tell_move(const StageLayout& moved, const std::string& block, std::size_t to) {
    const std::string move = concat("Moving its ", block, " to stage ", to);
    const Bytes bytes = stage_bytes(problem_, moved, to);
    if (bytes > problem_.capacity) {
      tell(move, " would not fit: that stage would hold ", bytes_text(bytes), " of ",
           bytes_text(problem_.capacity), ".");
      return;
    }
    const std::size_t worst = slowest(moved);
    tell(move, " would make stage ", worst, " the slowest with ",
         seconds_text(seconds_of(moved, worst)), ", and the step ", against_step(simulated(moved)),
         ".");
  }

  void tell_memory() {
    const FullPeak peak = full_peaks(input_, {plan_}).front();
    const Bytes capacity = evaluator_.capacity();
    tell("Memory: pipeline rank ", peak.rank, " holds most, ", bytes_text(peak.bytes), " of ",
         bytes_text(capacity), " (", percent_text(peak.bytes / capacity),
         ") with packs as full as the caps allow", peak.fits ? "." : ": it does not fit.");
  }

  void tell_recompute() {
    StageLayout kept = plan_.layout;
    std::fill(kept.recompute.begin(), kept.recompute.end(), Recompute::kKeep);
    Bytes needed = 0;
    std::size_t stage = 0;
    for (std::size_t s = 0; s < kept.num_stages(); ++s) {
      const Bytes bytes = stage_bytes(problem_, kept, s);
      if (bytes > needed) needed = bytes, stage = s;
    }
    if (kept.recompute == plan_.layout.recompute) {
      tell("Nothing is recomputed: all activations fit.");
      return;
    }
    const std::string levels = levels_text(plan_, 0, plan_.blocks.size());
    const Seconds seconds = simulated(kept);
    if (needed > problem_.capacity) {
      tell("Recompute (", levels, " blocks) costs ", percent_text(share(step().recompute)),
           " of the step. Without it stage ", stage, " would need ", bytes_text(needed), " of ",
           bytes_text(problem_.capacity), "; with that much memory the step would be ",
           against_step(seconds), ".");
    } else {
      tell("Recompute (", levels, " blocks) is not forced by memory; without it the step would be ",
           against_step(seconds), ".");
    }
  }

  void tell_bubble() {
    if (share(step().bubble) < kWorthTelling) return;
    Plan longer = plan_;
    longer.packs_per_step *= 2;
    longer.micro_batches *= 2;
    longer.schedule.micro_batches *= 2;
    const Prediction twice = predict_plan(input_, longer);
    const double ratio = (twice.step.seconds / twice.samples_per_step) /
                         (step().seconds / plan_.prediction.samples_per_step);
    if (ratio >= 1) {
      tell("The bubble is ", percent_text(share(step().bubble)),
           ". Twice the samples in a step would not make a sample faster.");
      return;
    }
    tell("The bubble is ", percent_text(share(step().bubble)),
         ". With twice the samples in a step a sample would take ", percent_text(1 - ratio),
         " less time: --samples-per-step ",
         count_text(static_cast<std::uint64_t>(twice.samples_per_step + 0.5)),
         ", if the training allows it.");
  }

  void tell_imbalance() {
    if (share(step().imbalance) < kWorthTelling) return;
    PackedWork equal = packed_;
    equal.packs.assign(1, packed_.mean);
    const Seconds seconds = evaluator_.simulate(candidate_, plan_.layout, equal, 1).time.seconds;
    const std::string cost = "Unlike stages, packs and ranks cost " +
                             percent_text(share(step().imbalance)) + " of the step. ";
    if (seconds < (1 - kWorthTelling) * step().seconds) {
      tell(cost, "If all packs were equal to the mean one, it would be ", against_step(seconds),
           "; the rest is unlike stages.");
    } else {
      tell(cost, "Equal packs would not make it faster: stages are unlike, by their blocks.");
    }
  }

  void tell_communication() {
    if (share(step().communication) < kWorthTelling) return;
    PlanInput fast = input_;
    for (LinkCost* link : {&fast.profile.links.inside_node, &fast.profile.links.between_nodes}) {
      if (link->bytes_per_second > 0) *link = {0, 1e30};
    }
    const Prediction prediction = predict_plan(fast, plan_);
    tell("Communication that nothing hides is ", percent_text(share(step().communication)),
         ". With links that cost no time the step would be ", against_step(prediction.step.seconds),
         ".");
  }

  void tell_alternatives() {
    std::size_t told = 0;
    const Prediction& own = plan_.prediction;
    const Seconds per_sample = step().seconds / own.samples_per_step;
    for (const Plan& other : result_.top) {
      if (other.mesh == plan_.mesh && other.schedule.kind == plan_.schedule.kind &&
          other.caps == plan_.caps && other.shard_policy == plan_.shard_policy) {
        continue;
      }
      const StepTime& time = other.prediction.step;
      const double samples = other.prediction.samples_per_step;
      const std::vector<std::pair<const char*, double>> parts = {
          {"compute", time.compute / samples - step().compute / own.samples_per_step},
          {"recompute", time.recompute / samples - step().recompute / own.samples_per_step},
          {"communication",
           time.communication / samples - step().communication / own.samples_per_step},
          {"bubble", time.bubble / samples - step().bubble / own.samples_per_step},
          {"imbalance", time.imbalance / samples - step().imbalance / own.samples_per_step}};
      const double ratio = time.seconds / samples / per_sample - 1;
      // The part that speaks most for the sign of the difference.
      const auto most =
          std::max_element(parts.begin(), parts.end(), [&](const auto& x, const auto& y) {
            return ratio < 0 ? x.second > y.second : x.second < y.second;
          });
      tell(told == 0 ? "Not chosen, the next best: " : "Not chosen, after that: ",
           choice_text(other), ". A sample would take ", percent_text(std::abs(ratio)),
           ratio < 0 ? " less" : " more", " time than with the plan, mostly by ", most->first, " (",
           seconds_text(std::abs(most->second)), most->second < 0 ? " less)." : " more).");
      if (++told == 3) break;
    }
  }

  std::string passes() const {
    std::vector<std::vector<std::string>> rows{{"pass", "result", "time"}};
    for (const PassReport& pass : result_.passes) {
      rows.push_back({pass.name, pass.result, seconds_text(pass.seconds)});
    }
    return "\n" + aligned_rows(rows, 2);
  }

  const PlanInput& input_;
  const PlanResult& result_;
  const Plan& plan_;
  Evaluator evaluator_;
  Candidate candidate_;
  PackedWork packed_;
  CutProblem problem_;
  std::string text_;
};

}  // namespace

std::string explain_plan(const PlanInput& input, const PlanResult& result) {
  return Explanation(input, result).text();
}

}  // namespace gimbal
