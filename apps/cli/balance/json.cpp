#include "apps/cli/balance/json.h"

#include <algorithm>

#include "gimbal/base/error.h"

namespace gimbal::cli {
namespace {

template <typename T>
OrderedJson or_null(const std::optional<T>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

// {stream: value}.
OrderedJson by_stream(const BalanceSetup& setup, std::span<const double> values) {
  OrderedJson object = OrderedJson::object();
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    object[setup.table.streams[k]] = values[k];
  }
  return object;
}

OrderedJson costs_json(const BalanceSetup& setup) {
  OrderedJson object = OrderedJson::object();
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    const StreamCost& cost = setup.options.costs[k];
    object[setup.table.streams[k]] = {{"per_row", cost.per_row}, {"per_pair", cost.per_pair}};
  }
  return object;
}

const char* end_name(LpEnd end) {
  switch (end) {
    case LpEnd::kSolved:
      return "solved";
    case LpEnd::kMetKnown:
      return "met_known";
    case LpEnd::kBelowFast:
      return "below_fast";
    case LpEnd::kStopped:
      return "stopped";
  }
  throw InternalError("an end of the LP bound without a name");
}

OrderedJson bound_json(const BalanceResult& result) {
  OrderedJson object = {{"fast", or_null(result.fast_bound)}, {"lp", nullptr}};
  if (result.lp_bound) {
    object["lp"] = {{"packs", result.lp_bound->packs},
                    {"value", result.lp_bound->value},
                    {"complete", result.lp_bound->complete()},
                    {"end", end_name(result.lp_bound->end)}};
  }
  return object;
}

OrderedJson patterns_json(const BalanceResult& result) {
  if (!result.patterns) return nullptr;
  const PatternSet& set = *result.patterns;
  return {{"types", set.demand.size()}, {"patterns", set.patterns.size()},
          {"lp_value", set.lp_value},   {"complete", set.complete},
          {"used", !set.empty()},       {"loaded", result.patterns_loaded}};
}

}  // namespace

std::string text_of(const OrderedJson& json, int indent) {
  return json.dump(indent, ' ', false, OrderedJson::error_handler_t::replace);
}

OrderedJson caps_json(const BalanceSetup& setup) {
  OrderedJson object = OrderedJson::object();
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    const std::uint64_t cap = setup.options.caps.of(static_cast<int>(k));
    object[setup.table.streams[k]] = cap > 0 ? OrderedJson(cap) : OrderedJson(nullptr);
  }
  return object;
}

OrderedJson sources_json(const BalanceSetup& setup, const BalanceResult& result) {
  std::vector<std::uint64_t> samples(setup.table.source_names.size());
  for (const std::uint32_t source : setup.table.sources) ++samples[source];
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    // A sampler of one source or of empty ones at the end counts fewer.
    const bool counted = i < result.source_counts.size();
    list.push_back({{"name", setup.table.source_names[i]},
                    {"samples", samples[i]},
                    {"drawn", counted ? result.source_counts[i] : 0},
                    {"weight", setup.table.source_weights[i]}});
  }
  return list;
}

OrderedJson curve_json(const BalanceSetup& setup, const CapCurve& curve) {
  const auto stream = static_cast<std::size_t>(curve.stream);
  OrderedJson points = OrderedJson::array();
  for (const CapPoint& point : curve.choice.curve) {
    points.push_back({{"cap", point.caps.of(curve.stream)},
                      {"cost_per_sample", point.cost_per_sample},
                      {"error", point.error},
                      {"packs", point.packs},
                      {"fill", point.fill}});
  }
  return {{"stream", setup.table.streams[stream]},
          {"cap", setup.options.caps.of(curve.stream)},
          {"auto", curve.automatic},
          {"closed_form", curve.choice.closed_form},
          {"pack_overhead", curve.choice.pack_overhead},
          {"points", std::move(points)}};
}

OrderedJson method_json(const BalanceSetup& setup, const BalanceResult& result,
                        const MethodResult& method) {
  const BalanceReport& report = method.report;
  OrderedJson fill = OrderedJson::object();
  for (std::size_t k = 0; k < setup.num_streams(); ++k) {
    const bool capped = setup.options.caps.of(static_cast<int>(k)) > 0;
    fill[setup.table.streams[k]] = capped ? OrderedJson(report.fill[k]) : OrderedJson(nullptr);
  }
  OrderedJson waste = by_stream(setup, report.waste);
  waste["cost"] = report.cost_waste;
  const double per_pack = report.packs == 0 ? 0
                                            : static_cast<double>(report.samples_packed) /
                                                  static_cast<double>(report.packs);
  return {{"method", method_name(method.method)},
          {"samples_in", report.samples_in},
          {"samples_packed", report.samples_packed},
          {"samples_rejected", report.samples_rejected},
          {"packs", report.packs},
          {"gap", or_null(result.gap(method))},
          {"samples_per_pack", per_pack},
          {"fill", std::move(fill)},
          {"waste", std::move(waste)},
          {"pad_ratio", report.pad_ratio},
          {"dist_ratio", by_stream(setup, report.dist_ratio)},
          {"steps", report.steps},
          {"slots", report.slots},
          {"order_correlation", report.order_correlation},
          {"source_mix_ratio", report.source_mix_ratio},
          {"seconds", report.seconds}};
}

OrderedJson balance_json(const BalanceArguments& arguments, const BalanceSetup& setup,
                         const BalanceResult& result, const BalanceTimes& times) {
  const MethodResult& chosen = result.chosen();
  const auto& caps = setup.options.caps;
  OrderedJson json = {
      {"files", arguments.files},
      {"streams", setup.table.streams},
      {"ranks", arguments.ranks},
      {"accumulate", arguments.accumulate},
      {"seed", arguments.seed},
      {"epoch", arguments.epoch},
      {"caps", caps_json(setup)},
      {"cap_cost", caps.cost > 0 ? OrderedJson(caps.cost) : OrderedJson(nullptr)},
      {"cap_samples", caps.samples > 0 ? OrderedJson(caps.samples) : OrderedJson(nullptr)},
      {"costs", costs_json(setup)}};
  json.update(method_json(setup, result, chosen));
  json["packs_lower_bound"] = or_null(result.bound());
  json["bound"] = bound_json(result);
  json["samples_alone"] = chosen.sampler->screening().oversize.size();
  json["sources"] = sources_json(setup, result);
  json["patterns"] = patterns_json(result);
  json["cap_search"] =
      setup.chosen_cap ? curve_json(setup, *setup.chosen_cap) : OrderedJson(nullptr);
  json["read_seconds"] = times.read;
  json["cap_seconds"] = times.caps;
  json["pattern_seconds"] = result.pattern_seconds;
  json["pack_seconds"] = chosen.report.seconds;
  json["bound_seconds"] = result.bound_seconds;
  json["total_seconds"] = times.total;
  json["peak_bytes"] = result.peak_bytes;
  json.erase("seconds");
  if (arguments.compare) {
    json["methods"] = OrderedJson::array();
    for (const MethodResult& method : result.methods) {
      json["methods"].push_back(method_json(setup, result, method));
    }
  }
  return json;
}

}  // namespace gimbal::cli
