// Training steps of the toy model cut into pipeline stages against the whole model in one process.
#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>

#include "gimbal/optim/adamw.h"
#include "gimbal/optim/clip.h"
#include "gimbal/schedule/validate.h"
#include "gimbal/train/tape/pipeline_stages.h"
#include "parallel/toy_model.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing_workers::run_workers;
using testing_workers::Worker;

constexpr int kNumMicroBatches = 4, kNumSteps = 3;
constexpr double kLossSeed = 0.1;
constexpr std::size_t kTableOwner = 2, kTableBorrower = 5;  // blocks

struct PipelineCase {
  std::string name;
  PipelineKind kind;
  int per_rank = 1;
  std::vector<std::size_t> cuts;  // where stages but the first begin
  std::vector<std::string> frozen = {};
  Recompute level = Recompute::kKeep;
  bool without_images = false;  // every second pack
};

std::vector<PipelineCase> cases_of(int num_ranks) {
  using enum PipelineKind;
  constexpr Recompute full = Recompute::kFull;
  if (num_ranks == 2) {
    return {{"1f1b", kOneFOneB, 1, {3}},
            {"gpipe", kGpipe, 1, {3}, {}, full},
            {"zb", kZeroBubble, 1, {3}},
            {"interleaved, tie on one rank", kInterleaved, 2, {1, 3, 5}},
            {"interleaved, tie on two ranks", kInterleaved, 2, {1, 2, 4}, {}, full, true},
            {"head alone", kOneFOneB, 1, {5}, {"text.1"}},
            {"first stage frozen", kOneFOneB, 1, {1}, {"vision"}, full},
            {"frozen, zb, cut in the text", kZeroBubble, 1, {4}, {"vision", "text.0"}, full, true},
            {"frozen table", kZeroBubble, 1, {2}, {"text.embed"}, full},
            {"zb, packs without images", kZeroBubble, 1, {1}, {}, full, true}};
  }
  return {{"1f1b", kOneFOneB, 1, {1, 3, 5}, {}, full, true},
          {"gpipe", kGpipe, 1, {2, 3, 4}},
          {"zb", kZeroBubble, 1, {1, 2, 4}, {}, full, true},
          {"zb, two frozen stages", kZeroBubble, 1, {1, 2, 3}, {"vision"}},
          {"more stages than blocks", kInterleaved, 2, {1, 2, 3, 3, 4, 5, 5}, {}, full}};
}

/// What is compared, by name: "loss", "norm" per step, "gradient NAME" of the first step, "NAME" at
/// the end.
using Numbers = std::map<std::string, std::vector<double>>;

void add_tensors(Numbers& numbers, const std::string& prefix, const toy::NamedTensors& tensors) {
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor flat = tensor.reshape({-1}).to(at::kDouble);
    std::vector<double>& values = numbers[prefix + name];
    for (std::int64_t i = 0; i < flat.numel(); ++i) values.push_back(flat[i].item<double>());
  }
}

Batch batch_of(const PipelineCase& test, int step, int micro_batch) {
  const bool without = test.without_images && micro_batch % 2 == 1;
  return toy::make_batch(static_cast<std::uint64_t>(100 * step + micro_batch), 4 + micro_batch,
                         without ? 0 : 1 + micro_batch);
}

Model model_of(const PipelineCase& test) {
  Model model = toy::make_model();
  for (const std::string& prefix : test.frozen) toy::freeze(model, prefix);
  return model;
}

/// `run_step(step)`: forward and backward of all micro-batches; returns the loss of this rank.
template <typename RunStep>
Numbers train(ParameterStore& store, Comm& world, RunStep&& run_step) {
  Numbers numbers;
  AdamW adamw(store.shards(), {});
  for (int step = 0; step < kNumSteps; ++step) {
    store.begin_step();
    at::Tensor loss = run_step(step);
    store.finish_reduce();
    if (step == 0) add_tensors(numbers, "gradient ", toy::gradients_of(store));
    const at::Tensor norm = global_norm(store.shards(), world);
    clip_gradients(store.shards(), norm, 1.0);
    adamw.step({{0.01, 0.1}, {0.01, 0.0}});
    store.values_changed();
    world.all_reduce_sum(loss, "loss")->wait();
    numbers["loss"].push_back(loss.item<double>());
    numbers["norm"].push_back(norm.item<double>());
  }
  add_tensors(numbers, "", toy::values_of(store));
  return numbers;
}

Numbers train_whole(const PipelineCase& test) {
  const Model model = model_of(test);
  const auto comm = make_single_comm();
  const auto store = toy::make_store(model, *comm);
  Tape tape(model, *store, std::vector<Recompute>(model.blocks.size(), Recompute::kKeep));
  return train(*store, *comm, [&](int step) {
    at::Tensor loss = at::zeros({}, at::kFloat);
    for (int m = 0; m < kNumMicroBatches; ++m) {
      const Batch batch = batch_of(test, step, m);
      loss += tape.forward({batch});
      tape.backward(kLossSeed, m + 1 == kNumMicroBatches);
    }
    return loss;
  });
}

/// This rank's stages in the pipeline.
class StagePlan {
 public:
  StagePlan(const PipelineCase& test, int rank, int num_ranks, std::size_t num_blocks)
      : rank_(rank), num_ranks_(num_ranks), num_blocks_(num_blocks) {
    std::size_t begin = 0;
    for (const std::size_t cut : test.cuts) {
      stages_.push_back({begin, cut});
      begin = cut;
    }
    stages_.push_back({begin, num_blocks});
  }

  const std::vector<BlockRange>& stages() const { return stages_; }
  int rank_of_block(std::size_t block) const {
    for (std::size_t s = 0; s < stages_.size(); ++s) {
      if (block >= stages_[s].begin && block < stages_[s].end)
        return static_cast<int>(s) % num_ranks_;
    }
    throw InternalError("no such block");
  }
  StoreSetup store_setup(Comm& pipeline) const {
    StoreSetup setup;
    for (std::size_t i = 0; i < num_blocks_; ++i)
      setup.own_blocks.push_back(rank_of_block(i) == rank_);
    setup.group_of = toy::group_of;
    const int owner = rank_of_block(kTableOwner), borrower = rank_of_block(kTableBorrower);
    if (owner != borrower && (rank_ == owner || rank_ == borrower))
      setup.tied = {&pipeline, rank_ == owner ? borrower : owner};
    return setup;
  }

 private:
  int rank_, num_ranks_;
  std::size_t num_blocks_;
  std::vector<BlockRange> stages_;
};

Numbers train_pipeline(const PipelineCase& test, Comm& world, const PipelineGroups& groups) {
  const Model model = model_of(test);
  const int rank = world.rank();
  const StagePlan plan(test, rank, world.size(), model.blocks.size());
  const auto store = make_sharded_store(model.blocks, plan.store_setup(*groups.backward));
  toy::fill_values(*store);
  const Schedule schedule =
      make_schedule({test.kind, world.size(), test.per_rank, kNumMicroBatches});
  TapeStagesSetup setup;
  setup.stages = plan.stages();
  setup.rank = rank;
  setup.num_ranks = world.size();
  setup.levels.assign(model.blocks.size(), test.level);
  setup.split_backward = test.kind == PipelineKind::kZeroBubble;
  TapeStages stages(model, *store, setup);
  return train(*store, world, [&](int step) {
    std::vector<int> most(plan.stages().size(), 0);
    std::vector<Action> ran;
    stages.begin(
        schedule, [&, m = 0]() mutable { return batch_of(test, step, m++); }, kLossSeed);
    run_schedule(schedule, groups, stages, [&](const Action& action, bool begin) {
      if (begin) ran.push_back(action);
      int& of_stage = most[static_cast<std::size_t>(action.stage)];
      of_stage = std::max(of_stage, static_cast<int>(stages.tape(action.stage).num_recordings()));
    });
    GIMBAL_CHECK(ran == schedule.ranks[static_cast<std::size_t>(rank)],
                 "the order is not the schedule's");
    const std::vector<int> in_flight = check_schedule(schedule).in_flight;
    for (std::size_t s = 0; s < most.size(); ++s) {
      const bool own = schedule.rank_of(static_cast<int>(s)) == rank;
      GIMBAL_CHECK_EQ(most[s], own ? in_flight[s] : 0, "recordings of stage ", s);
    }
    at::Tensor loss = at::zeros({}, at::kFloat);
    for (const at::Tensor& of_micro_batch : stages.losses()) {
      if (of_micro_batch.defined()) loss += of_micro_batch;
    }
    return loss;
  });
}

void train_all_cases() {
  const auto world =
      make_comm_world(read_launch_info(), at::kCPU, std::chrono::milliseconds(60000));
  std::vector<int> ranks;
  for (int r = 0; r < world->world().size(); ++r) ranks.push_back(r);
  const auto forward = world->make_group("forward", ranks);
  const auto backward = world->make_group("backward", ranks);
  std::cout << std::setprecision(17);
  for (const PipelineCase& test : cases_of(world->world().size())) {
    std::cout << "case " << test.name << "\n";
    for (const auto& [name, values] :
         train_pipeline(test, world->world(), {forward.get(), backward.get()})) {
      std::cout << name << " =";
      for (const double value : values) std::cout << " " << value;
      std::cout << "\n";
    }
  }
}

const Worker kPipelineCases("pipeline_cases", train_all_cases);

/// By case.
std::map<std::string, Numbers> parse_output(const std::string& text) {
  std::map<std::string, Numbers> cases;
  Numbers* numbers = nullptr;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("case ")) {
      numbers = &cases[line.substr(5)];
      continue;
    }
    const std::size_t end = line.find(" =");
    std::istringstream values(line.substr(end + 2));
    (*numbers)[line.substr(0, end)] = {std::istream_iterator<double>(values),
                                       std::istream_iterator<double>()};
  }
  return cases;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted,
                 double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], wanted[i], tolerance * (1 + std::abs(wanted[i]))) << what << " " << i;
}

void expect_as_whole(const PipelineCase& test, const std::vector<Numbers>& ranks) {
  const Numbers whole = train_whole(test);
  const bool frozen_table = std::ranges::count(test.frozen, "text.embed") > 0;
  std::map<std::string, int> holders;
  for (const Numbers& rank : ranks) {
    for (const auto& [name, values] : rank) {
      const std::string what = test.name + ", " + name;
      ASSERT_TRUE(whole.contains(name)) << what;
      const std::vector<double>& wanted = whole.at(name);
      ++holders[name];
      if (name == "gradient text.embed.table") {
        // Two stages' sums are added, not micro-batch by micro-batch: some roundings of 6e-8 each.
        expect_near(values, wanted, 1e-6, what);
      } else if (name.starts_with("gradient ")) {
        EXPECT_EQ(values, wanted) << what;
      } else {
        // The norm is summed in another order, and so the clipped gradients differ by a few eps
        // (1.2e-7); AdamW divides by their size, which enlarges this for small ones.
        expect_near(values, wanted, 2e-6, what);
      }
    }
  }
  for (const auto& [name, values] : whole) {
    const bool everywhere = name == "loss" || name == "norm";
    const bool tied = name.ends_with("text.embed.table");
    EXPECT_GE(holders[name], 1) << test.name << ", " << name;
    if (!tied) {
      EXPECT_EQ(holders[name], everywhere ? static_cast<int>(ranks.size()) : 1)
          << test.name << ", " << name;
    }
  }
  // Both copies of the table stay the same, bit for bit.
  const std::vector<double>* copy = nullptr;
  for (const Numbers& rank : ranks) {
    const auto found = rank.find("text.embed.table");
    if (found == rank.end()) continue;
    if (copy != nullptr) {
      EXPECT_EQ(*copy, found->second) << test.name;
    }
    copy = &found->second;
  }
  EXPECT_EQ(whole.contains("gradient text.embed.table"), !frozen_table);
}

void expect_pipelines(int num_ranks) {
  const auto results = run_workers("pipeline_cases", num_ranks);
  std::vector<std::map<std::string, Numbers>> of_ranks;
  for (const auto& result : results) {
    ASSERT_EQ(result.exit_code, 0) << result.output.substr(result.output.find("rror"));
    of_ranks.push_back(parse_output(result.output));
  }
  for (const PipelineCase& test : cases_of(num_ranks)) {
    std::vector<Numbers> ranks;
    for (auto& cases : of_ranks) ranks.push_back(std::move(cases.at(test.name)));
    expect_as_whole(test, ranks);
  }
}

TEST(DistPipelineTrain, TwoStageRanksEqualOneProcess) { expect_pipelines(2); }
TEST(DistPipelineTrain, FourStageRanksEqualOneProcess) { expect_pipelines(4); }

}  // namespace
}  // namespace gimbal
