// gimbal simulate: runs a pipeline schedule, or a step of a plan, in simulated time.
#include "apps/cli/command.h"
#include "apps/cli/plan/input.h"
#include "apps/cli/simulate/arguments.h"
#include "apps/cli/simulate/plan_step.h"
#include "apps/cli/simulate/report.h"
#include "gimbal/base/byte_text.h"
#include "gimbal/base/log.h"
#include "gimbal/plan/file/plan_file.h"
#include "gimbal/plan/text/figures.h"
#include "gimbal/schedule/text.h"
#include "gimbal/sim/trace.h"

namespace gimbal::cli {
namespace {

std::string as_comments(const std::string& text) {
  std::string out;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    out += (end == begin ? "#" : "# ") + text.substr(begin, end - begin) + "\n";
    begin = end == std::string::npos ? text.size() : end + 1;
  }
  return out;
}

PipelineResult run_schedule(const ScheduleArguments& arguments) {
  const Schedule& schedule = arguments.schedule;
  PipelineInput input;
  input.schedule = &schedule;
  for (std::size_t stage = 0; stage < arguments.forward.size(); ++stage) {
    StageWork work;
    work.forward = arguments.forward[stage];
    work.backward = arguments.backward[stage];
    work.backward_input = work.backward - arguments.weight[stage];
    work.backward_weight = arguments.weight[stage];
    work.saved = arguments.saved[stage];
    input.work.insert(input.work.end(), static_cast<std::size_t>(schedule.num_micro_batches), work);
  }
  LinkCost link;
  link.latency = arguments.send;
  input.links.assign(arguments.forward.size() - 1, link);
  input.static_bytes.assign(schedule.ranks.size(), 0);
  input.overlap_sends = !arguments.blocking_sends;
  return simulate_pipeline(input);
}

int simulate_schedule(const Arguments& words) {
  const ScheduleArguments arguments = parse_schedule_arguments(words);
  const Schedule& schedule = arguments.schedule;
  const PipelineResult result = run_schedule(arguments);

  OrderedJson json = {{"schedule", schedule_json(schedule, arguments.in_flight)}};
  if (arguments.print) json["schedule"]["text"] = format_schedule(schedule);
  json.update(pipeline_json(result, schedule));

  std::string text = schedule_title(schedule) + "\n\n";
  if (arguments.output.timeline) {
    text += ascii_timeline(result, schedule, arguments.output.width) + "\n";
  }
  text += "step " + seconds_text(result.seconds) + ", critical path " +
          seconds_text(result.critical_path) + "; ranks wait " + percent_text(idle_share(result)) +
          " of their time\n\n" + rank_table(result, schedule, arguments.in_flight);
  if (arguments.print) text = format_schedule(schedule) + as_comments(text);
  write_simulation(arguments.output, {result}, schedule, json, text);
  return 0;
}

OrderedJson time_json(const StepTime& time) {
  return {{"seconds", time.seconds},     {"compute", time.compute},
          {"recompute", time.recompute}, {"communication", time.communication},
          {"bubble", time.bubble},       {"imbalance", time.imbalance}};
}

std::string time_text(const StepTime& time) {
  const auto part = [&](const char* name, Seconds seconds) {
    return std::vector<std::string>{std::string("  ") + name, seconds_text(seconds),
                                    percent_text(seconds / time.seconds)};
  };
  return aligned_rows({part("compute", time.compute), part("recompute", time.recompute),
                       part("communication", time.communication), part("bubble", time.bubble),
                       part("imbalance", time.imbalance)},
                      1);
}

std::string plan_step_text(const PlanStepArguments& arguments, const Plan& plan,
                           const PlanStep& step) {
  const StepSimulation& simulation = step.simulation;
  const PipelineResult& slowest = simulation.pipelines[step.slowest_rank];
  std::string text = arguments.plan_file + ": " + choice_text(plan) + "\n" + "step " +
                     std::to_string(arguments.step) + " of " + std::to_string(step.num_steps) +
                     ": " + seconds_text(simulation.time.seconds) + "\n" +
                     time_text(simulation.time) +
                     "\nSlowest data-parallel rank: " + std::to_string(step.slowest_rank) + " of " +
                     std::to_string(simulation.pipelines.size()) + ", " +
                     seconds_text(slowest.seconds) + " until its last backward\n";
  if (arguments.output.timeline) {
    text += ascii_timeline(slowest, step.schedule, arguments.output.width);
  }
  return text + rank_table(slowest, step.schedule, step.in_flight) + "a device has " +
         bytes_text(step.capacity_bytes) + "\n";
}

int simulate_plan(const Arguments& words) {
  const PlanStepArguments arguments = parse_plan_step_arguments(words);
  const Plan plan = load_plan(arguments.plan_file);
  const PlanSetup setup = read_plan_setup(arguments.input, plan, arguments.plan_file);
  for (const std::string& note : setup.notes) log_info(note);
  const PlanStep step = simulate_plan_step(setup.input, plan, arguments.step);

  OrderedJson pipelines = OrderedJson::array();
  for (const PipelineResult& pipeline : step.simulation.pipelines) {
    pipelines.push_back(pipeline_json(pipeline, step.schedule));
  }
  const OrderedJson json = {{"plan", arguments.plan_file},
                            {"step", arguments.step},
                            {"steps", step.num_steps},
                            {"schedule", schedule_json(step.schedule, step.in_flight)},
                            {"time", time_json(step.simulation.time)},
                            {"peak_bytes", step.simulation.peak_bytes},
                            {"capacity_bytes", step.capacity_bytes},
                            {"slowest_rank", step.slowest_rank},
                            {"data_parallel", std::move(pipelines)},
                            {"notes", setup.notes}};
  write_simulation(arguments.output, step.simulation.pipelines, step.schedule, json,
                   plan_step_text(arguments, plan, step));
  return 0;
}

int run_simulate(const Arguments& words) {
  return names_a_plan(words) ? simulate_plan(words) : simulate_schedule(words);
}

}  // namespace

Command simulate_command() {
  return {"simulate", "Run a pipeline schedule, or a step of a plan, in simulated time",
          run_simulate};
}

}  // namespace gimbal::cli
