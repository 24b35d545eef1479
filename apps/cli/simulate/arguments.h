// What the user asks of `gimbal simulate`: a schedule with given times, or the step of a plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/cli/plan/arguments.h"
#include "gimbal/base/units.h"
#include "gimbal/schedule/schedule.h"

namespace gimbal::cli {

/// What is shown and written, in both forms.
struct SimulateOutput {
  bool timeline = false;
  int width = 100;  // of the timeline, characters
  std::string trace_file, json_file;
};

/// `gimbal simulate --schedule NAME ..`, or `--schedule-file FILE`. Times are per stage.
struct ScheduleArguments {
  Schedule schedule;  // sound (check_schedule)
  std::vector<int> in_flight;
  std::vector<Seconds> forward, backward, weight;  // [num_stages]; weight is a part of backward
  std::vector<Bytes> saved;                        // [num_stages], of a micro-batch
  Seconds send = 0;                                // of a message between two stages
  bool blocking_sends = false;
  bool print = false;
  SimulateOutput output;
};

/// `gimbal simulate PLAN.json ..`.
struct PlanStepArguments {
  std::string plan_file;
  PlanInputArguments input;
  std::uint64_t step = 0;  // of the epoch
  SimulateOutput output;
};

/// Whether the words are those of the second form: the first of them is a file.
bool names_a_plan(const Arguments& words);

/// Throw CLI::Success after --help, UserError for bad words and, in the first form, for schedules
/// that cannot run.
ScheduleArguments parse_schedule_arguments(const Arguments& words);
PlanStepArguments parse_plan_step_arguments(const Arguments& words);

}  // namespace gimbal::cli
