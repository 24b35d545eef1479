#include "gimbal/train/report/summary.h"

#include <algorithm>
#include <cstdio>

#include "gimbal/base/byte_text.h"
#include "gimbal/train/report/progress.h"

namespace gimbal {
namespace {

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%", 100.0 * share);
  return text;
}

constexpr std::size_t kListedSamples = 10;

std::vector<std::string> first_rejected(const RunSummary& s) {
  const auto count = std::min(s.rejected.size(), kListedSamples);
  return {s.rejected.begin(), s.rejected.begin() + static_cast<std::ptrdiff_t>(count)};
}

Json to_json(const std::vector<RankFacts>& ranks) {
  Json list = Json::array();
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    list.push_back({{"rank", i},
                    {"host", ranks[i].host},
                    {"coordinates", ranks[i].coordinates},
                    {"blocks", ranks[i].blocks},
                    {"state_bytes", ranks[i].state_bytes}});
  }
  return list;
}

/// A line for each stage, in the order of the model, with the pipeline rank that runs it; nothing
/// without a pipeline.
std::string stage_lines(const std::vector<RankFacts>& ranks) {
  // Ranks are in the order of the mesh, in which pp varies last: these are the pipeline ranks.
  std::vector<std::vector<std::string>> stages;
  for (const RankFacts& rank : ranks) {
    if (std::ranges::find(stages, rank.blocks) == stages.end()) stages.push_back(rank.blocks);
  }
  std::string text;
  if (stages.size() < 2) return text;
  // Stage s is run by pipeline rank s % pp.
  for (std::size_t i = 0; i < stages.front().size(); ++i) {
    for (std::size_t pp = 0; pp < stages.size(); ++pp) {
      text += "stage    " + std::to_string(i * stages.size() + pp) + " on pp " +
              std::to_string(pp) + ": " + stages[pp].at(i) + "\n";
    }
  }
  return text;
}

}  // namespace

Json to_json(const RunSummary& s) {
  return {{"kind", "summary"},
          {"run", s.run},
          {"model", s.model_type},
          {"parameters", s.parameters},
          {"trainable_parameters", s.trainable_parameters},
          {"dataset", s.dataset},
          {"samples", s.samples},
          {"tokens", s.tokens},
          {"images", s.media},
          {"packs", s.balance.packs},
          {"packs_lower_bound", s.balance.packs_lower_bound},
          {"fill", s.balance.fill},
          {"waste", s.waste},
          {"pack_seconds", s.balance.seconds},
          {"samples_in", s.balance.samples_in},
          {"samples_packed", s.balance.samples_packed},
          {"samples_rejected", s.balance.samples_rejected},
          {"rejected", first_rejected(s)},
          {"memory_bytes",
           {{"parameters", s.fit.memory.parameter_bytes},
            {"gradients", s.fit.memory.gradient_bytes},
            {"optimizer", s.fit.memory.optimizer_bytes},
            {"activations", s.fit.memory.activation_bytes},
            {"total", s.fit.memory.total_bytes()}}},
          {"fit", to_json(s.fit)},
          {"program_bytes", s.program_bytes},
          {"ranks", s.ranks},
          {"mesh", s.mesh},
          {"rank_facts", to_json(s.rank_facts)},
          {"threads", s.threads},
          {"dtype", s.dtype},
          {"peak_flops_per_second", s.peak_flops},
          {"first_step", s.first_step},
          {"total_steps", s.total_steps},
          {"step_flops", s.step_flops}};
}

std::string to_text(const RunSummary& s) {
  const double seconds_at_half_peak =
      s.step_flops / (0.5 * s.peak_flops) * static_cast<double>(s.total_steps - s.first_step);
  std::string text;
  text += "model    " + s.model_type + ", " + format_count(s.parameters) + " parameters, " +
          format_count(s.trainable_parameters) + " trainable, " + s.dtype + "\n";
  text += "data     " + s.dataset + ": " + format_count(s.samples) +
          (s.samples == 1 ? " sample, " : " samples, ") + format_count(s.tokens) + " tokens, " +
          format_count(s.media) + (s.media == 1 ? " picture\n" : " pictures\n");
  text += "packs    " + format_count(s.balance.packs) + " per epoch (lower bound " +
          format_count(s.balance.packs_lower_bound) + "), text fill " +
          (s.balance.fill.empty() ? "-" : percent(s.balance.fill[0])) + ", waste between ranks " +
          percent(s.waste) + "\n";
  if (!s.rejected.empty()) {
    text += "left out " + format_count(s.rejected.size()) +
            (s.rejected.size() == 1 ? " sample" : " samples") + " above a cap:";
    for (const std::string& sample : first_rejected(s)) text += "\n           " + sample;
    if (s.rejected.size() > kListedSamples) {
      text += "\n           and " + format_count(s.rejected.size() - kListedSamples) + " more";
    }
    text += "\n";
  }
  if (s.ranks > 1)
    text += "mesh     " + s.mesh + " on " + format_count(static_cast<std::uint64_t>(s.ranks)) +
            " processes\n";
  text += stage_lines(s.rank_facts);
  text += "memory   about " + bytes_text(s.fit.memory.total_bytes()) + " per process: parameters " +
          bytes_text(s.fit.memory.parameter_bytes) + ", gradients " +
          bytes_text(s.fit.memory.gradient_bytes) + ", optimizer " +
          bytes_text(s.fit.memory.optimizer_bytes) + ", activations " +
          bytes_text(s.fit.memory.activation_bytes) + "; the program holds " +
          bytes_text(static_cast<double>(s.program_bytes)) + " before the first step\n";
  text += "fit      " + to_text(s.fit) + "\n";
  text += "machine  " + std::to_string(s.ranks) + (s.ranks == 1 ? " process" : " processes") +
          " x " + std::to_string(s.threads) + (s.threads == 1 ? " thread" : " threads") +
          ", measured GEMM peak " + format_quantity(s.peak_flops) + "FLOP/s\n";
  text += "steps    " + format_count(static_cast<std::uint64_t>(s.first_step)) + " -> " +
          format_count(static_cast<std::uint64_t>(s.total_steps)) + ", " +
          format_quantity(s.step_flops) + "FLOP each, " + format_duration(seconds_at_half_peak) +
          " if half the peak is reached\n";
  return text + "run      " + s.run;
}

}  // namespace gimbal
