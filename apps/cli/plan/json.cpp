#include "apps/cli/plan/json.h"

#include <utility>

#include "gimbal/plan/file/plan_file.h"

namespace gimbal::cli {
namespace {

// Plans with the verdict of the tables.
OrderedJson plans_json(const std::vector<Plan>& plans, const std::vector<FullPeak>& peaks) {
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < plans.size(); ++i) {
    OrderedJson entry = to_json(plans[i]);
    entry["fits"] = peaks[i].fits;
    entry["full_peak_bytes"] = peaks[i].bytes;
    list.push_back(std::move(entry));
  }
  return list;
}

OrderedJson fit_json(const FitCheck& fit, const PlanSamples& samples) {
  OrderedJson parts = OrderedJson::object();
  for (const FitCheck::Part& part : fit.parts) parts[part.name] = part.bytes;
  OrderedJson worst = OrderedJson::array(), misfits = OrderedJson::array();
  for (const std::uint32_t sample : fit.worst_samples) {
    worst.push_back(samples.table.describe(sample));
  }
  for (const FitCheck::Misfit& misfit : fit.misfits) {
    misfits.push_back({{"sample", samples.entries[misfit.sample]},
                       {"place", samples.table.describe(misfit.sample)},
                       {"bytes", misfit.bytes},
                       {"reason", misfit.reason}});
  }
  return {{"fits", fit.fits},
          {"packs", fit.num_packs},
          {"packs_over", fit.num_packs_over},
          {"worst_pack",
           {{"index", fit.worst_pack},
            {"text_rows", fit.worst_work.text_rows},
            {"vision_rows", fit.worst_work.vision_rows},
            {"samples", std::move(worst)}}},
          {"worst_rank", fit.worst_rank},
          {"worst_stage", fit.worst_stage},
          {"peak_bytes", fit.peak_bytes},
          {"full_peak_bytes", fit.full_peak_bytes},
          {"capacity_bytes", fit.capacity_bytes},
          {"parts", std::move(parts)},
          {"misfits", std::move(misfits)}};
}

OrderedJson search_json(const PlanResult& result) {
  OrderedJson passes = OrderedJson::array();
  for (const PassReport& pass : result.passes) {
    passes.push_back({{"name", pass.name},
                      {"enabled", pass.enabled},
                      {"seconds", pass.seconds},
                      {"result", pass.result}});
  }
  return {{"meshes", result.num_meshes},
          {"candidates", result.num_candidates},
          {"simulated", result.num_simulated},
          {"bound_per_sample", result.bound_per_sample},
          {"passes", std::move(passes)}};
}

}  // namespace

OrderedJson plan_json(const PlanArguments& arguments, const PlanSetup& setup,
                      const PlanOutcome& outcome) {
  const PlanResult& result = outcome.result;
  OrderedJson json = {{"plan", to_json(result.best)}};
  if (arguments.plan_file.empty()) json["search"] = search_json(result);
  if (arguments.top > 1) json["top"] = plans_json(result.top, outcome.top_peaks);
  if (arguments.compare) json["compare"] = plans_json(outcome.compared, outcome.compared_peaks);
  if (arguments.explain) json["explain"] = outcome.explanation;
  if (outcome.fit) json["check"] = fit_json(*outcome.fit, setup.samples);
  json["notes"] = setup.notes;
  return json;
}

}  // namespace gimbal::cli
