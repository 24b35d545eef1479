#include "apps/cli/simulate/arguments.h"

#include <algorithm>

#include "apps/cli/option_values.h"
#include "apps/cli/output_file.h"
#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/schedule/text.h"
#include "gimbal/schedule/validate.h"

namespace gimbal::cli {
namespace {

constexpr const char* kSimulateExamples =
    "Examples:\n"
    "  gimbal simulate --schedule 1f1b --stages 4 --micro-batches 8 --timeline\n"
    "  gimbal simulate --schedule zb-h1 --stages 4 --micro-batches 8 --forward 1 --backward 2 "
    "--weight 1\n"
    "  gimbal simulate --schedule interleaved --stages 8 --micro-batches 8 --print > mine.txt\n"
    "  gimbal simulate --schedule-file mine.txt --forward 1,1,2,2,1,1,2,2 --trace trace.json\n"
    "  gimbal simulate plan.json recipe.yaml --profile profile.json --timeline\n"
    "\n"
    "The first form runs a pipeline schedule with given times per stage, the same for each "
    "micro-batch. The\n"
    "second runs a step of a plan with the real sizes of its micro-batches; its options are in\n"
    "`gimbal simulate PLAN.json --help`. A trace opens in ui.perfetto.dev or chrome://tracing.\n"
    "Exit code: 0, 1 (failed) or 2 (bad input).\n";

constexpr const char* kPlanStepExamples =
    "Examples:\n"
    "  gimbal simulate plan.json recipe.yaml --profile profile.json --timeline\n"
    "  gimbal simulate plan.json --model MODEL --lengths a.csv --hardware a100-80g --trace "
    "trace.json\n"
    "\n"
    "Model, data and machine are given as to `gimbal plan`; mesh, schedule, caps, cuts and "
    "recompute are the\n"
    "plan's. The timeline is that of the slowest data-parallel rank; the trace has all of them.\n"
    "Exit code: 0, 1 (failed) or 2 (bad input).\n";

/// The options of both forms; stays where it is made.
class OutputOptions {
 public:
  explicit OutputOptions(CLI::App& app) {
    app.add_flag("--timeline", output_.timeline, "Draw what each rank does when, in characters");
    app.add_option("--width", width_, "Characters of the timeline [100]")->option_text("N");
    app.add_option("--trace", output_.trace_file, "Write a trace for Perfetto (Chrome JSON)")
        ->option_text("FILE")
        ->check(output_file(StdoutName::kNo));
    app.add_option("--json", output_.json_file, "The figures; -: on stdout, in place of the text")
        ->option_text("FILE")
        ->check(output_file(StdoutName::kYes));
  }
  OutputOptions(const OutputOptions&) = delete;
  OutputOptions& operator=(const OutputOptions&) = delete;

  SimulateOutput output() const {
    SimulateOutput output = output_;
    GIMBAL_USER_CHECK(width_.empty() || output.timeline,
                      "--width: is of the timeline; give --timeline with it");
    if (!width_.empty()) {
      output.width = static_cast<int>(whole_number("--width", width_, 10, 10'000));
    }
    GIMBAL_USER_CHECK(
        !output.timeline || output.json_file != "-",
        "--timeline: --json - writes the figures in place of the text; leave one out");
    return output;
  }

 private:
  SimulateOutput output_;
  std::string width_;
};

struct RawScheduleArguments {
  std::string schedule, schedule_file, stages, micro_batches, stages_per_rank;
  std::string forward, backward, weight, send, saved;
};

/// "1.5,2,2": one value for all stages, or one for each.
template <typename Read>
std::vector<double> per_stage(const std::string& option, const std::string& text, int num_stages,
                              const Read& read) {
  std::vector<double> values;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    values.push_back(read(option, text.substr(begin, end - begin)));
    begin = end + 1;
  }
  const auto count = static_cast<std::size_t>(num_stages);
  GIMBAL_USER_CHECK(values.size() == 1 || values.size() == count, option, ": found ", values.size(),
                    " values, expected 1 or one for each of ", num_stages, " stages");
  if (values.size() == 1) values.assign(count, values.front());
  return values;
}

std::vector<Seconds> milliseconds(const std::string& option, const std::string& text,
                                  int num_stages) {
  std::vector<Seconds> values = per_stage(option, text, num_stages, real_number);
  for (Seconds& value : values) value *= 1e-3;
  return values;
}

Schedule named_schedule(const RawScheduleArguments& raw) {
  GIMBAL_USER_CHECK(!raw.stages.empty() && !raw.micro_batches.empty(), "--schedule ", raw.schedule,
                    ": needs --stages N and --micro-batches N");
  ScheduleShape shape;
  shape.kind = pipeline_kind(raw.schedule);
  const auto number = [](const char* option, const std::string& text) {
    return static_cast<int>(whole_number(option, text, 1, kMostSchedulePairs));
  };
  const int stages = number("--stages", raw.stages);
  if (!raw.stages_per_rank.empty()) {
    shape.stages_per_rank = number("--stages-per-rank", raw.stages_per_rank);
  } else if (shape.kind == PipelineKind::kInterleaved) {
    shape.stages_per_rank = 2;
  }
  GIMBAL_USER_CHECK(stages % shape.stages_per_rank == 0, "--stages: ", stages,
                    " is no multiple of ", shape.stages_per_rank,
                    " stages per rank; change it or --stages-per-rank");
  shape.ranks = stages / shape.stages_per_rank;
  shape.micro_batches = number("--micro-batches", raw.micro_batches);
  return make_schedule(shape);
}

Schedule read_schedule(const RawScheduleArguments& raw) {
  const std::string& file = raw.schedule_file;
  if (file.empty()) {
    GIMBAL_USER_CHECK(
        !raw.schedule.empty(),
        "nothing to simulate; give --schedule NAME (gpipe, 1f1b, interleaved, zb-h1), "
        "--schedule-file FILE, or a plan: gimbal simulate PLAN.json");
    return named_schedule(raw);
  }
  for (const auto& [option, text] :
       {std::pair<const char*, std::string>("--schedule", raw.schedule),
        {"--stages", raw.stages},
        {"--micro-batches", raw.micro_batches},
        {"--stages-per-rank", raw.stages_per_rank}}) {
    GIMBAL_USER_CHECK(text.empty(), option,
                      ": the file of --schedule-file says it; leave one of "
                      "them out");
  }
  return parse_schedule(read_file(file), file);
}

/// The depths in flight. Throws UserError with the first problems of a schedule that cannot run.
std::vector<int> checked_in_flight(const Schedule& schedule, const std::string& where) {
  const ScheduleCheck check = check_schedule(schedule);
  constexpr std::size_t kShown = 10;
  std::string list;
  for (std::size_t i = 0; i < std::min(kShown, check.problems.size()); ++i) {
    list += "\n  " + check.problems[i];
  }
  if (check.problems.size() > kShown) {
    list += concat("\n  and ", check.problems.size() - kShown, " more");
  }
  GIMBAL_USER_CHECK(check.problems.empty(), where, ": the schedule cannot run. Mend:", list);
  return check.in_flight;
}

bool has_kind(const Schedule& schedule, ActionKind kind) {
  return std::any_of(schedule.ranks.begin(), schedule.ranks.end(), [&](const auto& actions) {
    return std::any_of(actions.begin(), actions.end(),
                       [&](const Action& action) { return action.kind == kind; });
  });
}

void read_times(const RawScheduleArguments& raw, ScheduleArguments& arguments) {
  const int num_stages = arguments.schedule.num_stages;
  const auto count = static_cast<std::size_t>(num_stages);
  arguments.forward =
      milliseconds("--forward", raw.forward.empty() ? "1" : raw.forward, num_stages);
  if (!raw.backward.empty()) {
    arguments.backward = milliseconds("--backward", raw.backward, num_stages);
  }
  if (!raw.weight.empty()) {
    GIMBAL_USER_CHECK(has_kind(arguments.schedule, ActionKind::kBackwardWeight),
                      "--weight: counts where backward is split, as by zb-h1; leave it out");
    arguments.weight = milliseconds("--weight", raw.weight, num_stages);
  }
  for (std::size_t stage = 0; stage < count; ++stage) {
    GIMBAL_USER_CHECK(arguments.forward[stage] > 0, "--forward: stage ", stage,
                      " takes 0 ms; give a time above 0");
    if (raw.backward.empty()) arguments.backward.push_back(2 * arguments.forward[stage]);
    if (raw.weight.empty()) arguments.weight.push_back(arguments.backward[stage] / 2);
    GIMBAL_USER_CHECK(arguments.weight[stage] <= arguments.backward[stage],
                      "--weight: ", 1e3 * arguments.weight[stage], " ms of stage ", stage,
                      " are more than its whole backward, which takes ",
                      1e3 * arguments.backward[stage], " ms");
  }
  if (!raw.send.empty()) arguments.send = 1e-3 * real_number("--send", raw.send);
  arguments.saved.assign(count, 0);
  if (!raw.saved.empty()) arguments.saved = per_stage("--saved", raw.saved, num_stages, byte_count);
}

// The plan says them.
void check_plan_choices_absent(const PlanInputArguments& input) {
  const bool given = input.pp || input.tp || input.sp || input.ep || input.dp_shard ||
                     input.dp_replicate || input.schedule || input.stages_per_rank ||
                     !input.caps.empty() || input.search_caps || input.samples_per_step ||
                     input.packs_per_step || !input.without.empty();
  GIMBAL_USER_CHECK(!given,
                    "the plan says its mesh, schedule, caps and packs per step; leave out the "
                    "options that choose them");
}

}  // namespace

bool names_a_plan(const Arguments& words) {
  return !words.empty() && !words.front().empty() && words.front().front() != '-';
}

ScheduleArguments parse_schedule_arguments(const Arguments& words) {
  CLI::App app("Runs a pipeline schedule, or a step of a plan, in simulated time.",
               "gimbal simulate");
  RawScheduleArguments raw;
  ScheduleArguments arguments;
  const auto option = [&app](const char* name, auto& value, const char* text, const char* help) {
    return app.add_option(name, value, help)->option_text(text);
  };
  option("--schedule", raw.schedule, "NAME", "gpipe, 1f1b, interleaved or zb-h1");
  option("--stages", raw.stages, "N", "Stages of the pipeline, on all ranks");
  option("--micro-batches", raw.micro_batches, "N", "Micro-batches of a step");
  option("--stages-per-rank", raw.stages_per_rank, "N", "Stages of each rank [interleaved: 2]");
  option("--schedule-file", raw.schedule_file, "FILE",
         "Or any schedule as text, in the form that --print writes");
  option("--forward", raw.forward, "MS[,MS...]",
         "Milliseconds of a micro-batch's forward, of all stages or of each [1]");
  option("--backward", raw.backward, "MS[,MS...]",
         "Milliseconds of its whole backward [2 x forward]");
  option("--weight", raw.weight, "MS[,MS...]",
         "The part of backward that the weight gradients take, where it is split [half]");
  option("--send", raw.send, "MS", "Milliseconds of a message from stage to stage [0]");
  app.add_flag("--blocking-sends", arguments.blocking_sends,
               "A rank waits until its message is sent");
  option("--saved", raw.saved, "BYTES[,BYTES...]",
         "Activations of a micro-batch, for the memory in figures and trace (K, M, G, T) [0]");
  app.add_flag("--print", arguments.print,
               "Print the schedule as text; all else on stdout is then a comment of it");
  const OutputOptions outputs(app);
  app.footer(kSimulateExamples);
  parse(app, words);
  arguments.output = outputs.output();
  arguments.schedule = read_schedule(raw);
  arguments.in_flight = checked_in_flight(
      arguments.schedule, raw.schedule_file.empty() ? "--schedule" : raw.schedule_file);
  read_times(raw, arguments);
  GIMBAL_USER_CHECK(!arguments.blocking_sends || arguments.send > 0,
                    "--blocking-sends: messages take no time; give --send MS with it");
  return arguments;
}

PlanStepArguments parse_plan_step_arguments(const Arguments& words) {
  CLI::App app("Runs a step of a plan in simulated time.", "gimbal simulate PLAN.json");
  PlanStepArguments arguments;
  std::string step;
  app.add_option("PLAN", arguments.plan_file, "plan.json of gimbal plan")->option_text("FILE");
  const PlanInputOptions inputs(app);
  app.add_option("--step", step, "Which step of the epoch [0]")->option_text("N");
  const OutputOptions outputs(app);
  app.footer(kPlanStepExamples);
  parse(app, words);
  arguments.input = inputs.arguments(true);
  check_plan_choices_absent(arguments.input);
  if (!step.empty()) arguments.step = whole_number("--step", step, 0, std::uint64_t{1} << 62);
  arguments.output = outputs.output();
  return arguments;
}

}  // namespace gimbal::cli
