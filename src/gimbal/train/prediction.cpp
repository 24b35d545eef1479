#include "gimbal/train/prediction.h"

#include <cstdio>

#include "gimbal/train/progress.h"

namespace gimbal {
namespace {

Json figure_json(const Compared& figure) {
  Json json{{"predicted", figure.predicted}, {"measured", figure.measured}};
  json["ratio"] = figure.ratio() ? Json(*figure.ratio()) : Json(nullptr);
  return json;
}

std::string figure_text(const Compared& figure, double factor, const char* unit) {
  char text[160];
  std::snprintf(text, sizeof text, "%s %.4g %s, predicted %.4g %s", figure.name.c_str(),
                figure.measured * factor, unit, figure.predicted * factor, unit);
  std::string line = text;
  if (figure.ratio()) {
    std::snprintf(text, sizeof text, " (%+.1f%%)", 100 * (*figure.ratio() - 1));
    line += text;
  }
  return line;
}

constexpr double kMebi = 1.0 / (1 << 20);

}  // namespace

std::optional<double> Compared::ratio() const {
  if (predicted <= 0) return std::nullopt;
  return measured / predicted;
}

PredictionReport compare_prediction(std::int64_t step, const std::optional<Plan>& plan,
                                    const std::string& plan_file,
                                    const std::vector<MeasuredPeak>& ranks,
                                    const MeasuredTimes& times, double step_seconds) {
  PredictionReport report;
  report.step = step;
  MeasuredPeak peak;
  for (const MeasuredPeak& rank : ranks) peak.add(rank);
  report.activation_peak = {"activations at most", peak.predicted_activations, peak.activations};
  if (!plan) return report;
  report.plan = plan_file;
  const Prediction& predicted = plan->prediction;
  if (!predicted.peak_bytes.empty())
    report.total_peak = {"memory at most", predicted.peak_bytes.front(), peak.total};
  report.step_seconds = {"step", predicted.step.seconds, step_seconds};
  report.timed_micro_batches = times.micro_batches;
  if (times.micro_batches == 0) return report;
  const auto count = static_cast<double>(times.micro_batches);
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
            {"activation_peak_bytes", figure_json(report.activation_peak)}};
  if (report.plan.empty()) return json;
  json["plan"] = report.plan;
  if (report.total_peak) json["peak_bytes"] = figure_json(*report.total_peak);
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
  std::string text =
      "measured against predicted: " + figure_text(report.activation_peak, kMebi, "MiB");
  if (report.plan.empty()) return text;
  text += "\n  plan     " + report.plan;
  if (report.total_peak) text += "\n  " + figure_text(*report.total_peak, kMebi, "MiB");
  if (report.step_seconds) text += "\n  " + figure_text(*report.step_seconds, 1000, "ms");
  text += "\n  milliseconds of a micro-batch, mean of " + format_count(report.timed_micro_batches) +
          ":";
  for (std::size_t i = 0; i < report.forward.size(); ++i) {
    Compared forward = report.forward[i], backward = report.backward[i];
    forward.name += " forward", backward.name = "backward";
    text += "\n    " + figure_text(forward, 1000, "ms") + "; " + figure_text(backward, 1000, "ms");
  }
  return text;
}

}  // namespace gimbal
