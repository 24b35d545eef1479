#include "gimbal/sim/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "gimbal/schedule/schedule.h"

namespace gimbal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Simulated {
  Schedule schedule;
  PipelineResult result;
};

/// Forward 1 ms, backward 2 ms (1 + 1 where split); 100 bytes per micro-batch, 5 more while it
/// runs.
Simulated simulated(const ScheduleShape& shape, Bytes saved = 100, Seconds forward = 1e-3) {
  Simulated out{make_schedule(shape), {}};
  PipelineInput input;
  input.schedule = &out.schedule;
  const StageWork work{forward, 2e-3, 1e-3, 1e-3, saved, saved / 20, saved / 20, 0};
  input.work.assign(
      static_cast<std::size_t>(out.schedule.num_stages * out.schedule.num_micro_batches), work);
  input.links.resize(static_cast<std::size_t>(out.schedule.num_stages - 1));
  input.static_bytes.assign(static_cast<std::size_t>(out.schedule.num_ranks), saved * 10);
  out.result = simulate_pipeline(input);
  return out;
}

std::vector<OrderedJson> events(const OrderedJson& trace, const std::string& phase) {
  std::vector<OrderedJson> found;
  for (const OrderedJson& event : trace.at("traceEvents")) {
    if (event.at("ph") == phase) found.push_back(event);
  }
  return found;
}

TEST(ChromeTrace, HasASliceForEachAction) {
  const Simulated run = simulated({PipelineKind::kOneFOneB, 3, 1, 5});
  const OrderedJson trace = chrome_trace({run.result, run.result}, run.schedule);
  std::map<std::pair<int, int>, std::vector<OrderedJson>> threads;
  for (const OrderedJson& event : events(trace, "X")) {
    threads[{event.at("pid"), event.at("tid")}].push_back(event);
  }
  ASSERT_EQ(threads.size(), 6U);
  for (const auto& [thread, slices] : threads) {
    const auto& actions = run.result.ranks[static_cast<std::size_t>(thread.second)];
    ASSERT_EQ(slices.size(), actions.size());
    for (std::size_t i = 0; i < slices.size(); ++i) {
      EXPECT_NEAR(slices[i].at("ts").get<double>(), actions[i].start * 1e6, 1e-3);
      EXPECT_NEAR(slices[i].at("dur").get<double>(), (actions[i].end - actions[i].start) * 1e6,
                  1e-3);
      EXPECT_EQ(slices[i].at("args").at("micro_batch"), actions[i].action.micro_batch);
    }
  }
  EXPECT_EQ((threads[{1, 2}][1].at("name")), "2B0");
  EXPECT_EQ((threads[{1, 2}][1].at("cat")), "backward");
}

TEST(ChromeTrace, SlicesOfAThreadFollowEachOtherToTheNanosecond) {
  // Thirds of a millisecond are no whole nanoseconds.
  const Simulated run = simulated({PipelineKind::kZeroBubble, 4, 1, 9}, 100, 1e-3 / 3);
  std::map<int, std::int64_t> end;
  for (const OrderedJson& event : events(chrome_trace({run.result}, run.schedule), "X")) {
    const std::int64_t start = std::llround(event.at("ts").get<double>() * 1e3);
    std::int64_t& before = end[event.at("tid")];
    EXPECT_LE(before, start);
    before = start + std::llround(event.at("dur").get<double>() * 1e3);
  }
}

TEST(ChromeTrace, ArrowsGoFromEachSenderToItsReceiver) {
  const Simulated run = simulated({PipelineKind::kInterleaved, 2, 2, 4});
  const OrderedJson trace = chrome_trace({run.result}, run.schedule);
  const auto starts = events(trace, "s");
  const auto finishes = events(trace, "f");
  // Three pairs of neighbouring stages, both ways.
  ASSERT_EQ(starts.size(), 3U * 4U * 2U);
  ASSERT_EQ(finishes.size(), starts.size());
  for (std::size_t i = 0; i < starts.size(); ++i) {
    EXPECT_EQ(starts[i].at("id"), i);
    EXPECT_EQ(finishes[i].at("id"), i);
    EXPECT_NE(starts[i].at("tid"), finishes[i].at("tid"));
    EXPECT_LE(starts[i].at("ts").get<double>(), finishes[i].at("ts").get<double>());
    EXPECT_EQ(starts[i].at("name"), finishes[i].at("name"));
  }
  // Stages of one rank send nothing.
  const Simulated alone = simulated({PipelineKind::kInterleaved, 1, 3, 2});
  EXPECT_THAT(events(chrome_trace({alone.result}, alone.schedule), "s"), IsEmpty());
}

TEST(ChromeTrace, CountsMemoryWhereThereIsAny) {
  const Simulated run = simulated({PipelineKind::kGpipe, 1, 1, 2});
  std::vector<double> bytes;
  for (const OrderedJson& event : events(chrome_trace({run.result}, run.schedule), "C")) {
    EXPECT_EQ(event.at("name"), "memory of rank 0");
    bytes.push_back(event.at("args").at("bytes"));
  }
  // Start and end of F0 F1 B0 B1: 1000 always, 100 per micro-batch held, 5 while an action runs.
  EXPECT_THAT(bytes, ElementsAre(1105, 1100, 1205, 1200, 1205, 1100, 1105, 1000));
  const Simulated none = simulated({PipelineKind::kGpipe, 1, 1, 2}, 0);
  EXPECT_THAT(events(chrome_trace({none.result}, none.schedule), "C"), IsEmpty());
}

TEST(ChromeTrace, NamesRanksAndStages) {
  const Simulated run = simulated({PipelineKind::kInterleaved, 2, 2, 2});
  std::vector<std::string> names;
  for (const OrderedJson& event : events(chrome_trace({run.result}, run.schedule), "M")) {
    if (event.at("name") != "thread_sort_index") names.push_back(event.at("args").at("name"));
  }
  EXPECT_THAT(names,
              ElementsAre("data-parallel rank 0", "rank 0, stages 0, 2", "rank 1, stages 1, 3"));
}

TEST(AsciiTimeline, ShowsEachRank) {
  const Simulated run = simulated({PipelineKind::kOneFOneB, 2, 1, 3});
  EXPECT_EQ(ascii_timeline(run.result, run.schedule, 12),
            "rank 0 |01..aa2bb.cc|  75.0 % busy\n"
            "rank 1 |.0aa1bb2cc..|  75.0 % busy\n"
            "micro-batches by their last digit: 0-9 forward, a-j backward, . waits; one character "
            "is 1 ms\n");
}

TEST(AsciiTimeline, ShowsWeightGradientsAsCapitals) {
  const Simulated run = simulated({PipelineKind::kZeroBubble, 2, 1, 2});
  const std::string text = ascii_timeline(run.result, run.schedule, 7);
  EXPECT_THAT(text, HasSubstr("rank 0 |01.aAbB|"));
  EXPECT_THAT(text, HasSubstr("rank 1 |.0a1bAB|"));
  EXPECT_THAT(text, HasSubstr("A-J weight gradients"));
}

TEST(AsciiTimeline, ACharacterShowsWhatTakesMostOfIt) {
  const Simulated run = simulated({PipelineKind::kOneFOneB, 2, 1, 3});
  // Two milliseconds each: waiting shows where it is more than half.
  EXPECT_THAT(ascii_timeline(run.result, run.schedule, 6), HasSubstr("rank 0 |0.a2bc|"));
  const Simulated large = simulated({PipelineKind::kOneFOneB, 12, 1, 23});
  const std::string text = ascii_timeline(large.result, large.schedule, 40);
  EXPECT_THAT(text, HasSubstr("rank  9 |"));
  EXPECT_THAT(text, HasSubstr("rank 11 |"));
  for (std::size_t at = 0; (at = text.find("rank", at)) != std::string::npos; ++at) {
    EXPECT_EQ(text.find('|', at + 9), at + 9 + 40);
  }
}

TEST(AsciiTimeline, OfNoTimeIsEmpty) {
  Simulated run = simulated({PipelineKind::kOneFOneB, 1, 1, 1});
  for (ActionTimes& times : run.result.ranks[0]) times.start = times.end = 0;
  run.result.seconds = run.result.busy[0] = 0;
  EXPECT_THAT(ascii_timeline(run.result, run.schedule, 3), HasSubstr("|...|   0.0 % busy"));
}

}  // namespace
}  // namespace gimbal
