// One pipeline to cut and to simulate with given micro-batches.
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/bind.h"
#include "bindings/plan.h"
#include "gimbal/base/error.h"
#include "gimbal/plan/bound.h"
#include "gimbal/plan/packed_work.h"
#include "gimbal/plan/partition.h"
#include "gimbal/schedule/validate.h"

namespace py = pybind11;

namespace gimbal::python {
namespace {

using Layout = std::pair<std::vector<std::size_t>, std::vector<std::string>>;

class Pipeline {
 public:
  Pipeline(const PlanInput& input, const std::vector<int>& mesh, const std::string& schedule,
           int stages_per_rank, int micro_batches, bool reshard,
           std::optional<double> memory_bytes) {
    GIMBAL_CHECK_EQ(mesh.size(), 6u);
    CostSettings settings;
    settings.mesh = {mesh[0], mesh[1], mesh[2], mesh[3], mesh[4], mesh[5]};
    settings.frozen = input.frozen;
    settings.frozen.resize(input.model.blocks.size(), false);
    settings.state = input.state;
    settings.shard_policy = reshard ? ShardPolicy::kReshard : ShardPolicy::kKeepWeights;
    costs_ = std::make_unique<CostModel>(input.model, input.profile, settings);
    shape_ = {pipeline_kind(schedule), mesh[0], stages_per_rank, micro_batches};
    schedule_ = make_schedule(shape_);
    in_flight_ = check_schedule(schedule_).in_flight;
    capacity_ = memory_bytes.value_or(input.profile.memory_bytes) - input.profile.reserved_bytes;
  }

  double capacity() const { return capacity_; }
  const std::vector<int>& in_flight() const { return in_flight_; }

  /// Per block, of one micro-batch: forward, backward, recompute of everything.
  py::array_t<double> block_seconds(const WorkArray& work) const {
    const WorkSize size = to_works(work).front();
    const auto num_blocks = static_cast<py::ssize_t>(costs_->num_blocks());
    py::array_t<double> result({num_blocks, py::ssize_t{3}});
    double* out = result.mutable_data();
    for (std::size_t block = 0; block < costs_->num_blocks(); ++block) {
      *out++ = costs_->forward(block, size);
      *out++ = costs_->backward(block, size);
      *out++ = costs_->recompute(block, size, costs_->levels(block).back());
    }
    return result;
  }

  /// `measured`: micro-batches of whole steps that OmniBal's candidates are simulated on.
  std::optional<Layout> cut(const std::string& method, const std::string& recompute,
                            const WorkArray& works, const WorkArray& measured, int radius,
                            int keep_best, double reserve_bytes) const {
    const CutProblem problem = cut_problem(to_works(works));
    const std::vector<WorkSize> steps = to_works(measured);
    const OmniBalOptions options = {radius, keep_best, reserve_bytes};
    const PartitionMethod partition = partition_method(method);
    const RecomputeMethod levels = recompute_method(recompute);
    const py::gil_scoped_release release;
    StageLayout layout;
    switch (partition) {
      case PartitionMethod::kGimbal: {
        const auto choice =
            levels == RecomputeMethod::kFull ? LevelChoice::kFullOnly : LevelChoice::kAll;
        const auto found = solve_partition(partition_problem(problem, choice));
        if (!found) return std::nullopt;
        layout = to_layout(*found, *costs_, choice);
        if (levels == RecomputeMethod::kFull || levels == RecomputeMethod::kKnapsack) {
          return to_pair(layout);
        }
        break;
      }
      case PartitionMethod::kAdaPipe: {
        const auto found = cut_by_adapipe(problem);
        if (!found) return std::nullopt;
        layout = *found;
        if (levels == RecomputeMethod::kKnapsack) return to_pair(layout);
        break;
      }
      case PartitionMethod::kParameters:
        layout = cut_by_parameters(problem);
        break;
      case PartitionMethod::kLayers:
        layout = cut_by_layers(problem);
        break;
      case PartitionMethod::kOmniBal:
        layout = cut_by_omnibal(problem, options, [&](const StageLayout& candidate) {
          if (!fits(problem, candidate)) return std::numeric_limits<double>::infinity();
          double seconds = 0;
          for (const StepTime& step : run(candidate, steps).first) seconds += step.seconds;
          return seconds;
        });
        break;
    }
    if (!choose_recompute(problem, levels, options, layout)) return std::nullopt;
    return to_pair(layout);
  }

  /// The levels that a recompute method gives to cuts from elsewhere.
  std::optional<Layout> recompute(const std::vector<std::size_t>& stage_begin,
                                  const std::string& method, const WorkArray& works,
                                  double reserve_bytes) const {
    const CutProblem problem = cut_problem(to_works(works));
    StageLayout layout =
        layout_of({stage_begin, std::vector<std::string>(costs_->num_blocks(), "full")});
    const OmniBalOptions options = {.reserve_bytes = reserve_bytes};
    if (!choose_recompute(problem, recompute_method(method), options, layout)) return std::nullopt;
    return to_pair(layout);
  }

  /// Per stage: mean seconds of a micro-batch, and peak bytes with the largest of each component.
  py::tuple stages(const Layout& given, const WorkArray& works) const {
    const StageLayout layout = layout_of(given);
    const CutProblem problem = cut_problem(to_works(works));
    std::vector<double> seconds, bytes;
    for (std::size_t stage = 0; stage < layout.num_stages(); ++stage) {
      seconds.push_back(stage_seconds(*costs_, layout, stage, problem.mean));
      bytes.push_back(stage_bytes(problem, layout, stage));
    }
    return py::make_tuple(seconds, bytes);
  }

  /// Times of each step, [steps, 6]: seconds and its parts; and peak bytes per pipeline rank.
  py::tuple simulate(const Layout& given, const WorkArray& works) const {
    const StageLayout layout = layout_of(given);
    const std::vector<WorkSize> micro_batches = to_works(works);
    std::vector<StepTime> steps;
    std::vector<Bytes> peak;
    {
      const py::gil_scoped_release release;
      std::tie(steps, peak) = run(layout, micro_batches);
    }
    py::array_t<double> times({static_cast<py::ssize_t>(steps.size()), py::ssize_t{6}});
    double* out = times.mutable_data();
    for (const StepTime& step : steps) {
      for (const double value : {step.seconds, step.compute, step.recompute, step.communication,
                                 step.bubble, step.imbalance}) {
        *out++ = value;
      }
    }
    return py::make_tuple(times, peak);
  }

  /// Lower bounds of each step, [steps, 5]: the largest, work, critical path, memory, fill.
  py::array_t<double> bounds(const WorkArray& works) const {
    const std::vector<WorkSize> micro_batches = to_works(works);
    const std::size_t size = step_size(), num_steps = micro_batches.size() / size;
    BoundInput input;
    input.costs = costs_.get();
    input.schedule = shape_;
    input.in_flight = in_flight_;
    input.capacity = capacity_;
    py::array_t<double> result({static_cast<py::ssize_t>(num_steps), py::ssize_t{5}});
    double* out = result.mutable_data();
    for (std::size_t step = 0; step < num_steps; ++step) {
      input.micro_batches = std::span(micro_batches).subspan(step * size, size);
      StepBound bound = step_bound(input);
      if (std::isinf(bound.memory)) bound.memory = 0;  // nothing fits: no bound by memory
      for (const double value :
           {bound.seconds(), bound.work, bound.critical_path, bound.memory, bound.fill}) {
        *out++ = value;
      }
    }
    return result;
  }

 private:
  std::size_t step_size() const {
    const int ranks = costs_->settings().mesh.data_parallel();
    return static_cast<std::size_t>(ranks) * static_cast<std::size_t>(shape_.micro_batches);
  }

  CutProblem cut_problem(const std::vector<WorkSize>& works) const {
    GIMBAL_USER_CHECK(!works.empty(), "works has no micro-batch");
    CutProblem problem;
    problem.costs = costs_.get();
    problem.num_stages = schedule_.num_stages;
    problem.in_flight = in_flight_;
    problem.micro_batches = shape_.micro_batches;
    for (const WorkSize& work : works) {
      problem.mean = problem.mean + work;
      raise_to(problem.largest, work);
    }
    problem.mean = (1.0 / static_cast<double>(works.size())) * problem.mean;
    problem.capacity = capacity_;
    return problem;
  }

  StageLayout layout_of(const Layout& given) const {
    const auto& [begin, levels] = given;
    const auto num_stages = static_cast<std::size_t>(schedule_.num_stages);
    const bool ascending =
        std::adjacent_find(begin.begin(), begin.end(), std::greater_equal<>()) == begin.end();
    GIMBAL_USER_CHECK(begin.size() == num_stages + 1 && ascending && begin.front() == 0 &&
                          begin.back() == costs_->num_blocks(),
                      "stage_begin has to be ", num_stages + 1, " ascending places from 0 to ",
                      costs_->num_blocks(), ", the number of blocks");
    GIMBAL_USER_CHECK(levels.size() == costs_->num_blocks(), "recompute has ", levels.size(),
                      " levels, and the model ", costs_->num_blocks(), " blocks");
    return {begin, to_levels(levels)};
  }

  static Layout to_pair(const StageLayout& layout) {
    return {layout.stage_begin, level_names(layout.recompute)};
  }

  std::pair<std::vector<StepTime>, std::vector<Bytes>> run(
      const StageLayout& layout, const std::vector<WorkSize>& works) const {
    const std::size_t size = step_size();
    const auto ranks = static_cast<std::size_t>(costs_->settings().mesh.data_parallel());
    GIMBAL_USER_CHECK(!works.empty() && works.size() % size == 0, works.size(),
                      " micro-batches are no whole number of steps of ", size);
    std::pair<std::vector<StepTime>, std::vector<Bytes>> result;
    result.second.assign(static_cast<std::size_t>(schedule_.num_ranks), 0);
    std::vector<WorkSize> by_rank(size);
    for (std::size_t step = 0; step < works.size() / size; ++step) {
      // Given in the order in which they run, ranks side by side; wanted rank by rank.
      for (std::size_t i = 0; i < size; ++i) {
        by_rank[(i % ranks) * (size / ranks) + i / ranks] = works[step * size + i];
      }
      StepInput input;
      input.costs = costs_.get();
      input.layout = &layout;
      input.schedule = &schedule_;
      input.micro_batches = by_rank;
      const StepSimulation simulated = simulate_step(input);
      result.first.push_back(simulated.time);
      for (std::size_t rank = 0; rank < result.second.size(); ++rank) {
        result.second[rank] = std::max(result.second[rank], simulated.peak_bytes[rank]);
      }
    }
    return result;
  }

  std::unique_ptr<CostModel> costs_;
  ScheduleShape shape_;
  Schedule schedule_;
  std::vector<int> in_flight_;
  Bytes capacity_ = 0;
};

}  // namespace

void bind_pipeline(py::module_& m) {
  py::class_<Pipeline>(m, "Pipeline")
      .def(py::init<const PlanInput&, std::vector<int>, std::string, int, int, bool,
                    std::optional<double>>(),
           py::arg("input"), py::kw_only(), py::arg("mesh"), py::arg("schedule"),
           py::arg("stages_per_rank"), py::arg("micro_batches"), py::arg("reshard"),
           py::arg("memory_bytes"))
      .def_property_readonly("capacity", &Pipeline::capacity)
      .def_property_readonly("in_flight", &Pipeline::in_flight)
      .def("block_seconds", &Pipeline::block_seconds, py::arg("work"))
      .def("cut", &Pipeline::cut, py::kw_only(), py::arg("method"), py::arg("recompute"),
           py::arg("works"), py::arg("measured"), py::arg("radius"), py::arg("keep_best"),
           py::arg("reserve_bytes"))
      .def("recompute", &Pipeline::recompute, py::kw_only(), py::arg("stage_begin"),
           py::arg("method"), py::arg("works"), py::arg("reserve_bytes"))
      .def("stages", &Pipeline::stages, py::arg("layout"), py::arg("works"))
      .def("simulate", &Pipeline::simulate, py::arg("layout"), py::arg("works"))
      .def("bounds", &Pipeline::bounds, py::arg("works"));
}

}  // namespace gimbal::python
