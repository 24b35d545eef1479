#include "gimbal/sim/trace.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "gimbal/base/error.h"
#include "gimbal/schedule/text.h"

namespace gimbal {
namespace {

// Whole nanoseconds, which viewers count in: what follows in time does not overlap by a rounding.
std::int64_t trace_ns(Seconds seconds) { return std::llround(seconds * 1e9); }
double trace_us(std::int64_t ns) { return static_cast<double>(ns) / 1e3; }

const char* trace_category(ActionKind kind) {
  switch (kind) {
    case ActionKind::kForward:
      return "forward";
    case ActionKind::kBackward:
      return "backward";
    case ActionKind::kBackwardInput:
      return "backward input";
    case ActionKind::kBackwardWeight:
      return "backward weight";
  }
  return "";
}

/// Collects the events of the data-parallel ranks one after another.
class TraceEvents {
 public:
  explicit TraceEvents(const Schedule& schedule) : schedule_(schedule) {}

  void add_pipeline(int process, const PipelineResult& result) {
    GIMBAL_CHECK_EQ(result.ranks.size(), static_cast<std::size_t>(schedule_.num_ranks));
    add_name(process, 0, "process_name", "data-parallel rank " + std::to_string(process));
    for (int rank = 0; rank < schedule_.num_ranks; ++rank) {
      std::string stages;
      for (int stage = rank; stage < schedule_.num_stages; stage += schedule_.num_ranks) {
        stages += (stages.empty() ? "" : ", ") + std::to_string(stage);
      }
      add_name(process, rank, "thread_name",
               concat("rank ", rank,
                      stages.find(',') == std::string::npos ? ", stage " : ", stages ", stages));
      events_.push_back({{"ph", "M"},
                         {"pid", process},
                         {"tid", rank},
                         {"name", "thread_sort_index"},
                         {"args", {{"sort_index", rank}}}});
      const auto& actions = result.ranks[static_cast<std::size_t>(rank)];
      for (const ActionTimes& times : actions) add_action(process, rank, times);
      add_memory(process, rank, actions);
    }
    add_flows(process, result);
  }

  OrderedJson take() { return std::move(events_); }

 private:
  void add_name(int process, int thread, const char* what, const std::string& name) {
    events_.push_back({{"ph", "M"},
                       {"pid", process},
                       {"tid", thread},
                       {"name", what},
                       {"args", {{"name", name}}}});
  }

  void add_action(int process, int rank, const ActionTimes& times) {
    const std::int64_t start = trace_ns(times.start);
    events_.push_back({{"ph", "X"},
                       {"pid", process},
                       {"tid", rank},
                       {"ts", trace_us(start)},
                       {"dur", trace_us(trace_ns(times.end) - start)},
                       {"name", to_string(times.action)},
                       {"cat", trace_category(times.action.kind)},
                       {"args",
                        {{"stage", times.action.stage},
                         {"micro_batch", times.action.micro_batch},
                         {"bytes", times.bytes}}}});
  }

  void add_memory(int process, int rank, const std::vector<ActionTimes>& actions) {
    if (std::all_of(actions.begin(), actions.end(),
                    [](const ActionTimes& times) { return times.bytes == 0; })) {
      return;
    }
    const auto add = [&](Seconds time, Bytes bytes) {
      events_.push_back({{"ph", "C"},
                         {"pid", process},
                         {"tid", rank},
                         {"ts", trace_us(trace_ns(time))},
                         {"name", "memory of rank " + std::to_string(rank)},
                         {"args", {{"bytes", bytes}}}});
    };
    for (const ActionTimes& times : actions) {
      add(times.start, times.bytes);
      add(times.end, times.bytes_after);
    }
  }

  /// An arrow from the sending action to the one that waits for its message on another rank.
  void add_flows(int process, const PipelineResult& result) {
    const auto micro_batches = static_cast<std::size_t>(schedule_.num_micro_batches);
    const auto cell = [&](int stage, int micro_batch) {
      return static_cast<std::size_t>(stage) * micro_batches +
             static_cast<std::size_t>(micro_batch);
    };
    const std::size_t cells = static_cast<std::size_t>(schedule_.num_stages) * micro_batches;
    std::vector<const ActionTimes*> forward(cells), backward(cells);
    for (const auto& actions : result.ranks) {
      for (const ActionTimes& times : actions) {
        const Action& action = times.action;
        if (action.kind == ActionKind::kBackwardWeight) continue;
        auto& ends = action.kind == ActionKind::kForward ? forward : backward;
        ends[cell(action.stage, action.micro_batch)] = &times;
      }
    }
    for (int stage = 0; stage + 1 < schedule_.num_stages; ++stage) {
      if (schedule_.rank_of(stage) == schedule_.rank_of(stage + 1)) continue;
      for (int m = 0; m < schedule_.num_micro_batches; ++m) {
        const std::size_t here = cell(stage, m);
        const std::size_t next = cell(stage + 1, m);
        add_flow(process, "activations", *forward[here], *forward[next]);
        add_flow(process, "gradients", *backward[next], *backward[here]);
      }
    }
  }

  void add_flow(int process, const char* name, const ActionTimes& from, const ActionTimes& to) {
    // An arrow belongs to the slice that its time is in, so it leaves just before the end.
    const std::int64_t leaves = std::max(trace_ns(from.start), trace_ns(from.end) - 1);
    const auto add = [&](const char* phase, const ActionTimes& times, std::int64_t ns) {
      OrderedJson event = {
          {"ph", phase},        {"pid", process}, {"tid", schedule_.rank_of(times.action.stage)},
          {"ts", trace_us(ns)}, {"name", name},   {"cat", "message"},
          {"id", num_flows_}};
      if (*phase == 'f') event["bp"] = "e";  // of the slice around it, not of the next one
      events_.push_back(std::move(event));
    };
    add("s", from, leaves);
    add("f", to, trace_ns(to.start));
    ++num_flows_;
  }

  const Schedule& schedule_;
  OrderedJson events_ = OrderedJson::array();
  std::int64_t num_flows_ = 0;
};

}  // namespace

OrderedJson chrome_trace(const std::vector<PipelineResult>& pipelines, const Schedule& schedule) {
  TraceEvents events(schedule);
  for (std::size_t i = 0; i < pipelines.size(); ++i) {
    events.add_pipeline(static_cast<int>(i), pipelines[i]);
  }
  return {{"displayTimeUnit", "ms"},
          {"otherData", {{"schedule", schedule.name}, {"source", "gimbal, simulated"}}},
          {"traceEvents", events.take()}};
}

}  // namespace gimbal
