#include "bindings/plan.h"

#include <pybind11/stl.h>

#include <map>
#include <optional>
#include <set>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/bind.h"
#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/cost/hardware.h"
#include "gimbal/plan/file/plan_file.h"
#include "gimbal/plan/text/explain.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

constexpr std::size_t kWorkColumns = 5;

template <typename T>
std::vector<T> copied(const py::array_t<T, py::array::c_style>& array) {
  return {array.data(), array.data() + array.size()};
}

PlanInput make_input(const ModelDesc& model, const std::string& hardware,
                     const std::string& profile, const std::string& dtype, std::vector<bool> frozen,
                     const std::vector<double>& state_bytes, const Array32& text_rows,
                     const std::optional<Array32>& vision_rows, const std::string& origin) {
  PlanInput input;
  input.model = model;
  input.profile = profile.empty() ? analytic_profile(input.model, find_hardware(hardware), dtype)
                                  : load_profile(profile);
  input.frozen = std::move(frozen);
  GIMBAL_CHECK_EQ(state_bytes.size(), 4u);
  input.state = {state_bytes[0], state_bytes[1], state_bytes[2], state_bytes[3]};
  input.samples.text_rows = copied<std::uint32_t>(text_rows);
  if (vision_rows) input.samples.vision_rows = copied<std::uint32_t>(*vision_rows);
  input.samples.origin = origin;
  input.memo = make_pack_memo();
  return input;
}

void set_search(PlanInput& input, int devices, const std::map<std::string, int>& axes,
                const std::optional<std::string>& schedule, int stages_per_rank,
                std::optional<std::vector<std::uint64_t>> caps, double samples_per_step,
                std::optional<std::uint64_t> packs_per_step, std::optional<double> memory_bytes,
                std::set<std::string> without, std::size_t num_top, std::uint64_t seed) {
  input.devices = devices;
  const auto axis = [&](const char* name) {
    const auto found = axes.find(name);
    return found == axes.end() ? std::optional<int>() : std::optional<int>(found->second);
  };
  input.pp = axis("pp");
  input.tp = axis("tp");
  input.sp = axis("sp");
  input.ep = axis("ep");
  input.dp_shard = axis("dp_shard");
  input.dp_replicate = axis("dp_replicate");
  input.schedule.reset();
  if (schedule) input.schedule = pipeline_kind(*schedule);
  input.stages_per_rank = stages_per_rank;
  input.caps = std::move(caps);
  input.samples_per_step = samples_per_step;
  input.packs_per_step = packs_per_step;
  input.memory_bytes = memory_bytes;
  input.without = std::move(without);
  input.num_top = num_top;
  input.seed = seed;
}

Plan plan_of(const std::string& text) { return plan_from_json(Json::parse(text), "plan"); }

OrderedJson plans_json(const std::vector<Plan>& plans) {
  OrderedJson list = OrderedJson::array();
  for (const Plan& plan : plans) list.push_back(to_json(plan));
  return list;
}

std::string search(const PlanInput& input) {
  const py::gil_scoped_release release;
  const PlanResult result = make_plan(input);
  OrderedJson passes = OrderedJson::array();
  for (const PassReport& pass : result.passes) {
    passes.push_back({{"name", pass.name},
                      {"enabled", pass.enabled},
                      {"seconds", pass.seconds},
                      {"result", pass.result}});
  }
  const OrderedJson json = {{"best", to_json(result.best)},
                            {"top", plans_json(result.top)},
                            {"passes", passes},
                            {"num_meshes", result.num_meshes},
                            {"num_candidates", result.num_candidates},
                            {"num_simulated", result.num_simulated},
                            {"explanation", explain_plan(input, result)}};
  return json.dump();
}

std::string compare(const PlanInput& input, const std::string& plan) {
  const py::gil_scoped_release release;
  return plans_json(compare_methods(input, plan_of(plan))).dump();
}

std::string predict(const PlanInput& input, const std::string& text) {
  const py::gil_scoped_release release;
  Plan plan = plan_of(text);
  plan.prediction = predict_plan(input, plan);
  return to_json(plan).dump();
}

py::tuple pack_samples(const PlanInput& input, PackMethod method, std::vector<std::uint64_t> caps,
                       std::uint64_t samples_per_pack, std::uint64_t packs_per_step,
                       std::uint64_t packs_per_slot, std::uint64_t seed) {
  PackChoice choice;
  choice.method = method;
  choice.caps.rows = std::move(caps);
  choice.samples = samples_per_pack;
  choice.packs_per_step = packs_per_step;
  choice.packs_per_slot = packs_per_slot;
  choice.seed = seed;
  PackedWork packed;
  {
    const py::gil_scoped_release release;
    packed = pack_work(input.samples, input.model, stream_costs(input.model), choice);
  }
  std::vector<std::uint32_t> counts;
  for (const auto& pack : packed.samples) {
    counts.push_back(static_cast<std::uint32_t>(pack.size()));
  }
  return py::make_tuple(to_array(packed.packs), owning_array(std::move(counts)));
}

}  // namespace

std::vector<WorkSize> to_works(const WorkArray& works) {
  GIMBAL_CHECK(works.ndim() == 2 && works.shape(1) == kWorkColumns, "work is no [n, 5] array");
  std::vector<WorkSize> result;
  for (py::ssize_t i = 0; i < works.shape(0); ++i) {
    result.push_back({.text_rows = works.at(i, 0),
                      .text_pairs = works.at(i, 1),
                      .loss_rows = works.at(i, 2),
                      .vision_rows = works.at(i, 3),
                      .vision_pairs = works.at(i, 4)});
  }
  return result;
}

WorkArray to_array(const std::vector<WorkSize>& works) {
  WorkArray result({works.size(), kWorkColumns});
  double* out = result.mutable_data();
  for (const WorkSize& work : works) {
    *out++ = work.text_rows;
    *out++ = work.text_pairs;
    *out++ = work.loss_rows;
    *out++ = work.vision_rows;
    *out++ = work.vision_pairs;
  }
  return result;
}

std::vector<Recompute> to_levels(const std::vector<std::string>& names) {
  std::vector<Recompute> levels;
  for (const std::string& name : names) {
    const auto level = enum_value<Recompute>(name);
    GIMBAL_USER_CHECK(level, "unknown recompute level '", name,
                      "'; known: ", enum_choices<Recompute>(", "));
    levels.push_back(*level);
  }
  return levels;
}

std::vector<std::string> level_names(const std::vector<Recompute>& levels) {
  std::vector<std::string> names;
  for (const Recompute level : levels) names.emplace_back(enum_name(level));
  return names;
}

void bind_plan(py::module_& m) {
  m.def("known_hardware", [] {
    std::vector<std::string> names;
    for (const Hardware& hardware : known_hardware()) names.push_back(hardware.name);
    return names;
  });
  m.def("plan_passes", &pass_names);
  m.def(
      "plan_table", [](const std::string& plan) { return plan_table(plan_of(plan)); },
      py::arg("plan"));
  m.def(
      "comparison_table",
      [](const std::vector<std::string>& texts) {
        std::vector<Plan> plans;
        for (const std::string& text : texts) plans.push_back(plan_of(text));
        return comparison_table(plans);
      },
      py::arg("plans"));
  m.def(
      "check_plan",
      [](const std::string& text, const std::string& where) {
        return to_json(plan_from_json(Json::parse(text), where)).dump();
      },
      py::arg("plan"), py::arg("where"));
  py::class_<PlanInput>(m, "PlanInput")
      .def(py::init(&make_input), py::kw_only(), py::arg("model"), py::arg("hardware"),
           py::arg("profile"), py::arg("dtype"), py::arg("frozen"), py::arg("state_bytes"),
           py::arg("text_rows").noconvert(), py::arg("vision_rows").noconvert(), py::arg("origin"))
      .def("set_search", &set_search, py::kw_only(), py::arg("devices"), py::arg("axes"),
           py::arg("schedule"), py::arg("stages_per_rank"), py::arg("caps"),
           py::arg("samples_per_step"), py::arg("packs_per_step"), py::arg("memory_bytes"),
           py::arg("without"), py::arg("num_top"), py::arg("seed"))
      .def("search", &search)
      .def("compare", &compare, py::arg("plan"))
      .def("predict", &predict, py::arg("plan"))
      .def("pack", &pack_samples, py::kw_only(), py::arg("method"), py::arg("caps"),
           py::arg("samples_per_pack"), py::arg("packs_per_step"), py::arg("packs_per_slot"),
           py::arg("seed"));
}

}  // namespace gimbal::python
