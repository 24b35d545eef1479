#include "gimbal/train/report/prediction.h"

#include <algorithm>
#include <cstdio>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"
#include "gimbal/train/report/progress.h"

namespace gimbal {
namespace {

Json figure_json(const Compared& figure) {
  Json json{{"predicted", figure.predicted}, {"measured", figure.measured}};
  json["ratio"] = figure.ratio() ? Json(*figure.ratio()) : Json(nullptr);
  return json;
}

Json ranks_json(const std::vector<RankPeak>& ranks) {
  Json list = Json::array();
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const RankPeak& rank = ranks[i];
    const Compared activations{"", rank.peak.predicted_activations, rank.peak.activations};
    list.push_back({{"rank", i},
                    {"pp", rank.pp},
                    {"total_peak_bytes", rank.peak.total},
                    {"held_bytes", rank.held_bytes},
                    {"state_bytes",
                     {{"parameters", rank.parameter_bytes},
                      {"gradients", rank.gradient_bytes},
                      {"optimizer", rank.optimizer_bytes}}},
                    {"activation_peak_bytes", figure_json(activations)}});
  }
  return list;
}

/// "step 550 ms, predicted 500 ms (+10.0%)".
std::string figure_text(const Compared& figure, const std::string& measured,
                        const std::string& predicted) {
  std::string line = figure.name + " " + measured + ", predicted " + predicted;
  if (figure.ratio()) {
    char text[32];
    std::snprintf(text, sizeof text, " (%+.1f%%)", 100 * (*figure.ratio() - 1));
    line += text;
  }
  return line;
}

std::string memory_figure_text(const Compared& figure) {
  return figure_text(figure, bytes_text(figure.measured), bytes_text(figure.predicted));
}

std::string time_figure_text(const Compared& figure) {
  const auto milliseconds = [](double seconds) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g ms", 1000 * seconds);
    return std::string(text);
  };
  return figure_text(figure, milliseconds(figure.measured), milliseconds(figure.predicted));
}

}  // namespace

std::optional<double> Compared::ratio() const {
  if (predicted <= 0) return std::nullopt;
  return measured / predicted;
}

PredictionReport compare_prediction(std::int64_t step, const std::optional<Plan>& plan,
                                    const std::string& plan_file,
                                    const std::vector<RankPeak>& ranks, const MeasuredTimes& times,
                                    double step_seconds) {
  PredictionReport report;
  report.step = step;
  report.ranks = ranks;
  MeasuredPeak peak;
  int stage_ranks = 1;
  for (const RankPeak& rank : ranks) {
    peak.add(rank.peak);
    stage_ranks = std::max(stage_ranks, rank.pp + 1);
  }
  report.activation_peak = {"activations at most", peak.predicted_activations, peak.activations};
  if (!plan) return report;
  report.plan = plan_file;
  const Prediction& predicted = plan->prediction;
  for (std::size_t pp = 0; pp < predicted.peak_bytes.size(); ++pp) {
    double measured = 0;
    for (const RankPeak& rank : ranks) {
      if (rank.pp == static_cast<int>(pp)) measured = std::max(measured, rank.peak.total);
    }
    const std::string name =
        stage_ranks == 1 ? "memory at most" : concat("memory of pipeline rank ", pp, " at most");
    report.total_peaks.push_back({name, predicted.peak_bytes[pp], measured});
  }
  report.step_seconds = {"step", predicted.step.seconds, step_seconds};
  report.timed_micro_batches = times.micro_batches;
  if (times.micro_batches == 0) return report;
  // Each rank of a pipeline has timed a part of every micro-batch.
  const auto count = static_cast<double>(times.micro_batches) / stage_ranks;
  for (const Prediction::ClassTime& time : predicted.classes) {
    const auto measured = times.classes.find(time.cost_class);
    if (measured == times.classes.end()) continue;
    report.forward.push_back({time.cost_class, time.forward, measured->second.forward / count});
    report.backward.push_back({time.cost_class, time.backward, measured->second.backward / count});
  }
  return report;
}

Json to_json(const PredictionReport& report) {
  Json json{{"kind", "prediction"},
            {"step", report.step},
            {"activation_peak_bytes", figure_json(report.activation_peak)},
            {"ranks", ranks_json(report.ranks)}};
  if (report.plan.empty()) return json;
  json["plan"] = report.plan;
  if (!report.total_peaks.empty()) {
    // The pipeline rank that needs most; all of them when there are several.
    json["peak_bytes"] = figure_json(*std::ranges::max_element(
        report.total_peaks, {}, [](const Compared& peak) { return peak.predicted; }));
  }
  if (report.total_peaks.size() > 1) {
    json["peak_bytes_by_rank"] = Json::array();
    for (const Compared& peak : report.total_peaks)
      json["peak_bytes_by_rank"].push_back(figure_json(peak));
  }
  if (report.step_seconds) json["step_seconds"] = figure_json(*report.step_seconds);
  json["timed_micro_batches"] = report.timed_micro_batches;
  json["classes"] = Json::array();
  for (std::size_t i = 0; i < report.forward.size(); ++i) {
    json["classes"].push_back({{"class", report.forward[i].name},
                               {"forward", figure_json(report.forward[i])},
                               {"backward", figure_json(report.backward[i])}});
  }
  return json;
}

std::string to_text(const PredictionReport& report) {
  std::string text = "measured against predicted: " + memory_figure_text(report.activation_peak);
  if (report.plan.empty()) return text;
  text += "\n  plan     " + report.plan;
  for (const Compared& peak : report.total_peaks) text += "\n  " + memory_figure_text(peak);
  if (report.step_seconds) text += "\n  " + time_figure_text(*report.step_seconds);
  text += "\n  milliseconds of a micro-batch, mean of " + format_count(report.timed_micro_batches) +
          ":";
  for (std::size_t i = 0; i < report.forward.size(); ++i) {
    Compared forward = report.forward[i], backward = report.backward[i];
    forward.name += " forward", backward.name = "backward";
    text += "\n    " + time_figure_text(forward) + "; " + time_figure_text(backward);
  }
  return text;
}

}  // namespace gimbal
