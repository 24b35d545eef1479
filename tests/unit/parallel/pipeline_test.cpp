#include "gimbal/parallel/pipeline.h"

#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <exception>
#include <optional>
#include <thread>

#include "balance/check_cases.h"
#include "gimbal/parallel/pipeline/receives_ahead.h"
#include "gimbal/schedule/validate.h"
#include "parallel/fake_stages.h"
#include "parallel/thread_comms.h"
#include "schedule/schedule_shapes.h"

namespace gimbal {
namespace {

using testing::calls_of;
using testing::FakeBoundaries;
using testing::FakeStages;
using testing::ThreadGroup;

/// What each rank's runner and observer have seen.
struct PipelineRecord {
  std::vector<std::string> calls, observed;
  std::vector<int> most_held;  // per stage
  int most_sends = 0;
};

/// Runs every rank in a thread of its own. Throws what a rank throws.
PipelineRecord run_ranks(const Schedule& schedule, const FakeBoundaries& boundaries,
                         bool forward_only = false) {
  const auto num_ranks = static_cast<std::size_t>(schedule.num_ranks);
  ThreadGroup forward(schedule.num_ranks), backward(schedule.num_ranks);
  PipelineRecord record;
  record.calls.resize(num_ranks);
  record.observed.resize(num_ranks);
  record.most_held.assign(static_cast<std::size_t>(schedule.num_stages), 0);
  std::vector<std::exception_ptr> errors(num_ranks);
  std::vector<std::vector<int>> held(num_ranks);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const auto activations = forward.comm(static_cast<int>(rank));
        const auto gradients = backward.comm(static_cast<int>(rank));
        FakeStages stages(schedule, boundaries, at::kCPU);
        std::string& observed = record.observed[rank];
        const ActionObserver observer = [&](const Action& action, bool begin) {
          if (begin) observed += (observed.empty() ? "" : " ") + to_string(action);
        };
        run_schedule(schedule, {activations.get(), gradients.get()}, stages, observer,
                     forward_only);
        record.calls[rank] = stages.calls;
        held[rank] = stages.most_held;
      } catch (...) {
        errors[rank] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  for (const auto& of_rank : held) {
    for (std::size_t s = 0; s < of_rank.size(); ++s) record.most_held[s] += of_rank[s];
  }
  record.most_sends = std::max(forward.most_sends(), backward.most_sends());
  return record;
}

void expect_run(const Schedule& schedule, const FakeBoundaries& boundaries) {
  const std::string text = format_schedule(schedule);
  for (const bool forward_only : {false, true}) {
    const PipelineRecord record = run_ranks(schedule, boundaries, forward_only);
    for (int rank = 0; rank < schedule.num_ranks; ++rank) {
      const std::string wanted = calls_of(schedule, rank, forward_only);
      EXPECT_EQ(record.calls[static_cast<std::size_t>(rank)], wanted) << text;
      EXPECT_EQ(record.observed[static_cast<std::size_t>(rank)], wanted) << text;
    }
    // A message is one or two tensors.
    EXPECT_LE(record.most_sends, 4) << text;
    if (!forward_only) {
      EXPECT_EQ(record.most_held, check_schedule(schedule).in_flight) << text;
    }
  }
}

TEST(Pipeline, RunsEverySchedule) {
  std::uint64_t seed = 1;
  for (const ScheduleShape& shape : testing::all_shapes(4, 6)) {
    expect_run(make_schedule(shape), FakeBoundaries{seed++, 0, at::kFloat});
  }
}

TEST(Pipeline, StagesAreConnectedPairByPair) {
  for (const int num_ranks : {1, 2, 3, 4}) {
    ThreadGroup forward(num_ranks), backward(num_ranks);
    std::vector<std::thread> threads;
    for (int rank = 0; rank < num_ranks; ++rank) {
      threads.emplace_back([&, rank] {
        const auto activations = forward.comm(rank);
        const auto gradients = backward.comm(rank);
        connect_stages({activations.get(), gradients.get()});
      });
    }
    for (std::thread& thread : threads) thread.join();
    std::set<std::pair<int, int>> wanted;
    for (int rank = 0; num_ranks > 1 && rank < (num_ranks == 2 ? 1 : num_ranks); ++rank) {
      wanted.emplace(rank, (rank + 1) % num_ranks);
    }
    EXPECT_EQ(forward.ways, wanted);
    EXPECT_EQ(forward.names.size(), wanted.size());
    EXPECT_EQ(backward.names.size(), wanted.size());
  }
}

TEST(Pipeline, AnyShapesComeThroughProperty) {
  testing::check_cases(60, [] {
    const auto shapes = testing::all_shapes(3, 9);
    const ScheduleShape shape = *rc::gen::elementOf(shapes);
    const Schedule schedule = make_schedule(shape);
    const FakeBoundaries boundaries{*testing::between<std::uint64_t>(0, 1000000),
                                    *testing::between(0, schedule.num_stages + 1),
                                    *rc::gen::element(at::kFloat, at::kBFloat16)};
    expect_run(schedule, boundaries);
    RC_ASSERT(!::testing::Test::HasFailure());
  });
}

TEST(Pipeline, MessagesMayBeUsedInAnotherOrderThanTheyAreSent) {
  const Schedule schedule = parse_schedule(
      "mine ranks=2 stages=2 micro_batches=3\n"
      "0F0 0F1 0F2 0B1 0B0 0B2\n"
      "1F2 1F0 1B0 1F1 1B1 1B2\n",
      "test");
  ASSERT_TRUE(check_schedule(schedule).problems.empty());
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    expect_run(schedule, FakeBoundaries{seed, 0, at::kFloat});
}

/// Stages whose boundaries all have one text row.
class OneRowStages : public StageRunner {
 public:
  Flow forward(int, int micro_batch, Flow) override {
    Flow out;
    out.text = micro_batch == bad_micro_batch ? bad : at::ones({1, 2});
    return out;
  }
  Flow backward(int stage, int, Flow) override {
    Flow out;
    if (stage > 0) out.text = at::ones({1, 2});
    return out;
  }
  Flow backward_input(int stage, int micro_batch, Flow in) override {
    return backward(stage, micro_batch, std::move(in));
  }
  void backward_weight(int, int) override {}
  StageBoundary boundary(int, int) const override {
    return {{std::nullopt, RowsShape{1, 2}}, at::kFloat, needs_gradient};
  }

  int bad_micro_batch = -1;
  at::Tensor bad;
  bool needs_gradient = true;
};

std::string error_of(OneRowStages stages) {
  const Schedule schedule = make_schedule({PipelineKind::kInterleaved, 1, 2, 4});
  try {
    run_schedule(schedule, {}, stages);
  } catch (const InternalError& error) {
    return error.what();
  }
  return "";
}

TEST(Pipeline, WrongTensorsAreNamed) {
  OneRowStages stages;
  EXPECT_EQ(error_of(stages), "");
  stages.bad_micro_batch = 2;
  EXPECT_THAT(error_of(stages),
              ::testing::HasSubstr("activations text of micro-batch 2 to stage 1 are missing"));
  stages.bad = at::ones({3, 2});
  EXPECT_THAT(error_of(stages),
              ::testing::HasSubstr("activations text of micro-batch 2 to stage 1 are [3, 2] "
                                   "Float; both stages expect [1, 2] Float"));
  stages.bad = at::ones({1, 2}, at::kBFloat16);
  EXPECT_THAT(error_of(stages), ::testing::HasSubstr("[1, 2] BFloat16; both"));
  stages.bad_micro_batch = -1;
  stages.needs_gradient = false;
  EXPECT_THAT(
      error_of(stages),
      ::testing::HasSubstr("gradients text of micro-batch 0 to stage 0 are there; neither"));
}

TEST(Pipeline, GroupsMustFitTheSchedule) {
  OneRowStages stages;
  const Schedule schedule = make_schedule({PipelineKind::kOneFOneB, 2, 1, 2});
  EXPECT_THROW(run_schedule(schedule, {}, stages), InternalError);
  const auto comm = make_single_comm();
  EXPECT_THROW(run_schedule(schedule, {comm.get(), comm.get()}, stages), InternalError);
}

/// All boundaries have one tensor of one row, so that messages can be counted.
void run_one_row_ranks(const Schedule& schedule, ThreadGroup& forward, ThreadGroup& backward) {
  std::vector<std::exception_ptr> errors(schedule.ranks.size());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < schedule.num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        const auto activations = forward.comm(rank);
        const auto gradients = backward.comm(rank);
        OneRowStages stages;
        run_schedule(schedule, {activations.get(), gradients.get()}, stages);
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

/// Rounds of 10 micro-batches on 7 ranks: with receives one action ahead all ranks would come to
/// wait for each other.
TEST(Pipeline, LongRoundsPostTheirReceivesEarlier) {
  const Schedule schedule = make_schedule({PipelineKind::kInterleaved, 7, 2, 20});
  EXPECT_GT(receives_ahead(schedule, /*forward_only=*/false), 1u);
  ThreadGroup forward(7), backward(7);
  run_one_row_ranks(schedule, forward, backward);
  EXPECT_EQ(forward.names.size() + backward.names.size(), 2u * 13 * 20);
  for (const ScheduleShape& shape : testing::all_shapes(4, 9)) {
    EXPECT_EQ(receives_ahead(make_schedule(shape), /*forward_only=*/false), 1u);
  }
  Schedule never = make_schedule({PipelineKind::kGpipe, 2, 1, 1});
  std::swap(never.ranks[0][0], never.ranks[0][1]);
  EXPECT_THROW(receives_ahead(never, /*forward_only=*/false), InternalError);
}

TEST(Pipeline, TwoMessagesAreUnderWayAndTheirNamesTellTheirWay) {
  ThreadGroup forward(2), backward(2);
  run_one_row_ranks(make_schedule({PipelineKind::kGpipe, 2, 1, 8}), forward, backward);
  EXPECT_LE(forward.most_sends(), 2);
  EXPECT_LE(backward.most_sends(), 2);
  ASSERT_EQ(forward.names.size(), 8u);
  EXPECT_EQ(forward.names[3], "activations text of micro-batch 3 to stage 1");
  EXPECT_EQ(backward.names.at(1), "gradients text of micro-batch 1 to stage 0");
}

/// Else two ranks whose operations run one after another could wait for each other.
TEST(Pipeline, BetweenTwoRanksAGroupHasOneWay) {
  ThreadGroup forward(2), backward(2);
  run_one_row_ranks(make_schedule({PipelineKind::kInterleaved, 2, 3, 4}), forward, backward);
  using Ways = std::set<std::pair<int, int>>;
  EXPECT_EQ(forward.ways, (Ways{{0, 1}}));
  EXPECT_EQ(backward.ways, (Ways{{1, 0}}));
  EXPECT_EQ(forward.names.size() + backward.names.size(), 2u * 5 * 4);
}

/// Writes down what is posted; every message is there at once.
class LoggingComm : public testing::ThreadComm {
 public:
  LoggingComm(ThreadGroup& group, int rank, std::vector<std::string>& log)
      : ThreadComm(group, rank), log_(log) {}
  std::unique_ptr<CommWork> send(at::Tensor, int to, const std::string& name) override {
    log_.push_back(concat("to ", to, ": ", name));
    return std::make_unique<Done>();
  }
  std::unique_ptr<CommWork> receive(at::Tensor tensor, int from, const std::string& name) override {
    tensor.fill_(1);
    log_.push_back(concat("from ", from, ": ", name));
    return std::make_unique<Done>();
  }

 private:
  class Done : public CommWork {
    void wait() override {}
  };
  std::vector<std::string>& log_;
};

TEST(Pipeline, ReceivesArePostedOneActionAhead) {
  std::vector<std::string> log;
  ThreadGroup group(2);
  LoggingComm comm(group, /*rank=*/1, log);
  OneRowStages stages;
  run_schedule(make_schedule({PipelineKind::kGpipe, 2, 1, 3}), {&comm, &comm}, stages,
               [&](const Action& action, bool begin) {
                 if (begin) log.push_back(to_string(action));
               });
  EXPECT_EQ(log, (std::vector<std::string>{
                     "from 0: activations text of micro-batch 0 from stage 0",
                     "from 0: activations text of micro-batch 1 from stage 0", "1F0",
                     "from 0: activations text of micro-batch 2 from stage 0", "1F1", "1F2", "1B0",
                     "to 0: gradients text of micro-batch 0 to stage 0", "1B1",
                     "to 0: gradients text of micro-batch 1 to stage 0", "1B2",
                     "to 0: gradients text of micro-batch 2 to stage 0"}));
}

}  // namespace
}  // namespace gimbal
