// Training on every mesh against training in one process: losses, gradient norms and all weights
// after three steps. The quick run draws groups of cases by GIMBAL_PARITY_SEED; GIMBAL_PARITY_CASES
// says how many cases for each number of processes, or "all".
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <random>

#include "gimbal/base/json.h"
#include "gimbal/base/log.h"
#include "gimbal/checkpoint/hf_folder.h"
#include "gimbal/config/load.h"
#include "gimbal/train/trainer/trainer.h"
#include "parity/parity_case.h"
#include "unit/base/temp_folder.h"
#include "workers.h"

namespace gimbal::parity {
namespace {

using testing::TempFolder;
using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

constexpr const char* kRootVariable = "GIMBAL_PARITY_ROOT";
constexpr double kEps = std::numeric_limits<float>::epsilon();
// Other meshes add the same float32 numbers in another order: hundreds of terms in the products'
// inner dimension, the rows of eight packs, the ranks. What one sum is off by, a few eps, each of
// the eleven blocks passes on to the next, and backward once more. A loss is a mean over hundreds
// of tokens and a norm a sum over all gradients, in which most of this cancels. Weights move by lr
// * g / (|g| + 1e-4), which hands the relative error of each gradient to its step; their bound is
// relative to their size, or to the way that three steps can move them.
constexpr double kLossTolerance = 4 * kEps;
constexpr double kNormTolerance = 16 * kEps;
constexpr double kWeightTolerance = 64 * kEps;
constexpr std::size_t kCasesPerLaunch = 12;
constexpr int kMostFailures = 3;

/// Runs the recipes that cases.json names one after another in the same processes.
const Worker kRunCases("parity_cases", [] {
  const std::filesystem::path root = std::getenv(kRootVariable);
  Runtime runtime = make_runtime(DeviceKind::kCpu, 1, 40);
  init_log(LogLevel::kError, "");
  for (const std::string name : read_json(root / "cases.json")) {
    std::cout << "in " << name << ": " << std::flush;
    const Recipe recipe = load_recipe(root / (name + ".yaml"), {}).front().recipe;
    Trainer(recipe, std::nullopt, recipe.train.run, std::nullopt, runtime).run();
    std::cout << "done\n";
  }
});

struct Outcome {
  std::vector<double> losses, norms;
  std::map<std::string, at::Tensor> weights;
  bool some_rank_without_images = false;
};

Outcome read_outcome(const std::filesystem::path& run) {
  Outcome outcome;
  std::ifstream metrics(run / "metrics.jsonl");
  for (std::string text; std::getline(metrics, text);) {
    const Json line = Json::parse(text);
    if (line.at("kind") != "train") continue;
    outcome.losses.push_back(line.at("loss"));
    outcome.norms.push_back(line.at("grad_norm"));
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t most = 0;
    for (const Json& rank : line.at("ranks")) {
      least = std::min(least, rank.at("vision_rows").get<std::uint64_t>());
      most = std::max(most, rank.at("vision_rows").get<std::uint64_t>());
    }
    outcome.some_rank_without_images |= least == 0 && most > 0;
  }
  const HfWeights weights(run / "hf");
  for (const std::string& name : weights.names())
    outcome.weights[name] = weights.tensor(name).to(at::kDouble);
  return outcome;
}

class ParityMatrix : public ::testing::Test {
 protected:
  ParityMatrix() { write_inputs(folder_.path()); }

  /// The outcomes by case name. Every case that fails is reported; the others are run all the same.
  std::map<std::string, Outcome> run(const std::vector<Case>& cases) {
    std::vector<Case> left = cases;
    int failures = 0;
    while (!left.empty() && failures < kMostFailures) {
      const std::size_t count = std::min(kCasesPerLaunch, left.size());
      const std::vector<Case> batch(left.begin(),
                                    left.begin() + static_cast<std::ptrdiff_t>(count));
      const auto first_undone = static_cast<std::ptrdiff_t>(run_batch(batch));
      left.erase(left.begin(), left.begin() + first_undone);
      if (first_undone == static_cast<std::ptrdiff_t>(count)) continue;
      left.erase(left.begin());  // the one that failed
      ++failures;
    }
    EXPECT_TRUE(left.empty()) << left.size() << " cases were not run after " << failures
                              << " failures";
    std::map<std::string, Outcome> outcomes;
    for (const Case& one : cases) {
      if (is_done(one)) outcomes[one.name()] = read_outcome(folder_ / one.name());
    }
    return outcomes;
  }

  /// With the cases of one process that they are compared with.
  std::map<std::string, Outcome> run_with_references(const std::vector<Case>& cases) {
    std::map<std::string, Case> references;
    for (const Case& one : cases) references[one.alone().name()] = one.alone();
    std::vector<Case> alone;
    for (const auto& [name, one] : references) alone.push_back(one);
    std::map<std::string, Outcome> outcomes = run(alone);
    outcomes.merge(run(cases));
    return outcomes;
  }

 private:
  bool is_done(const Case& one) const {
    return std::filesystem::exists(folder_ / one.name() / "summary.json");
  }

  /// How many of the cases, all of the same number of processes, were done in one launch.
  std::size_t run_batch(const std::vector<Case>& batch) {
    Json names = Json::array();
    for (const Case& one : batch) {
      names.push_back(one.name());
      std::ofstream(folder_ / (one.name() + ".yaml"))
          << to_yaml({StageRecipe{"parity", recipe_of(one, folder_.path())}});
    }
    std::ofstream(folder_ / "cases.json") << names.dump();
    const std::vector<WorkerResult> results = run_workers(
        "parity_cases", batch.front().mesh.devices(), {{kRootVariable, folder_.path().string()}});
    bool failed = false;
    for (std::size_t rank = 0; rank < results.size(); ++rank) {
      failed = failed || results[rank].exit_code != 0;
      const std::string& output = results[rank].output;
      EXPECT_EQ(results[rank].exit_code, 0)
          << "rank " << rank << " " << output.substr(output.rfind("in "));
    }
    std::size_t done = 0;
    while (done < batch.size() && is_done(batch[done])) ++done;
    // Rank 0 may have finished a case in which another rank failed at the end.
    return failed ? std::min(done, batch.size() - 1) : done;
  }

  TempFolder folder_;
};

/// The largest differences that were seen, in tolerances.
struct Worst {
  double loss = 0, norm = 0, weights = 0;
};

void expect_near(const std::vector<double>& got, const std::vector<double>& expected,
                 double tolerance, double& worst, const std::string& what) {
  ASSERT_EQ(got.size(), static_cast<std::size_t>(kSteps)) << what;
  ASSERT_EQ(expected.size(), got.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double bound = tolerance * std::abs(expected[i]);
    worst = std::max(worst, std::abs(got[i] - expected[i]) / bound);
    EXPECT_NEAR(got[i], expected[i], bound) << what << " of step " << i + 1;
  }
}

void expect_near_weights(const Outcome& got, const Outcome& expected, double& worst) {
  ASSERT_EQ(got.weights.size(), expected.weights.size());
  for (const auto& [name, values] : expected.weights) {
    ASSERT_TRUE(got.weights.contains(name)) << name;
    const double reach = kSteps * kLearningRate * std::sqrt(static_cast<double>(values.numel()));
    const double size = std::max(values.norm().item<double>(), reach);
    const double distance = (got.weights.at(name) - values).norm().item<double>();
    worst = std::max(worst, distance / (kWeightTolerance * size));
    EXPECT_LE(distance, kWeightTolerance * size) << name;
  }
}

void expect_same_bits(const Outcome& got, const Outcome& expected, bool with_norms = true) {
  EXPECT_EQ(got.losses, expected.losses);
  if (with_norms) {
    EXPECT_EQ(got.norms, expected.norms);
  }
  for (const auto& [name, values] : expected.weights)
    EXPECT_TRUE(values.equal(got.weights.at(name))) << name;
}

/// Every case near its reference, and cases of a group equal.
void check(const std::vector<Case>& cases, const std::map<std::string, Outcome>& outcomes) {
  std::map<std::string, std::string> first_of_group;
  Worst worst;
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name());
    if (!outcomes.contains(one.name()) || !outcomes.contains(one.alone().name())) {
      ADD_FAILURE() << "has no result";
      continue;
    }
    const Outcome& got = outcomes.at(one.name());
    const Outcome& expected = outcomes.at(one.alone().name());
    expect_near(got.losses, expected.losses, kLossTolerance, worst.loss, "loss");
    expect_near(got.norms, expected.norms, kNormTolerance, worst.norm, "gradient norm");
    expect_near_weights(got, expected, worst.weights);
    const auto [first, is_new] = first_of_group.try_emplace(one.group(), one.name());
    if (is_new) continue;
    SCOPED_TRACE("the same bits as " + first->second);
    expect_same_bits(got, outcomes.at(first->second));
  }
  std::cout << cases.size() << " cases; largest difference in tolerances: loss " << worst.loss
            << ", gradient norm " << worst.norm << ", weights " << worst.weights << std::endl;
}

std::string variable(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : value;
}

/// Pairs of cases of the same group, groups in random order, until there are `count`; or all.
std::vector<Case> draw(std::vector<Case> cases, const std::string& count) {
  if (count == "all") return cases;
  const std::string seed = variable("GIMBAL_PARITY_SEED", "1");
  std::cout << "GIMBAL_PARITY_SEED=" << seed << std::endl;
  std::mt19937 generator(static_cast<unsigned>(std::stoul(seed)));
  std::shuffle(cases.begin(), cases.end(), generator);
  std::vector<Case> drawn;
  std::map<std::string, int> of_group;
  for (std::size_t i = 0; i < cases.size() && drawn.size() < std::stoul(count); ++i) {
    if (of_group[cases[i].group()]++ > 0) continue;
    drawn.push_back(cases[i]);
    for (std::size_t j = i + 1; j < cases.size(); ++j) {
      if (cases[j].group() != cases[i].group()) continue;
      drawn.push_back(cases[j]);
      break;
    }
  }
  return drawn;
}

TEST_F(ParityMatrix, TwoProcessesEqualOne) {
  const std::vector<Case> cases = draw(matrix(2), variable("GIMBAL_PARITY_CASES", "14"));
  check(cases, run_with_references(cases));
}

TEST_F(ParityMatrix, FourProcessesEqualOne) {
  const std::vector<Case> cases = draw(matrix(4), variable("GIMBAL_PARITY_CASES", "14"));
  const std::map<std::string, Outcome> outcomes = run_with_references(cases);
  check(cases, outcomes);
  EXPECT_TRUE(std::ranges::any_of(outcomes, [](const auto& outcome) {
    return outcome.second.some_rank_without_images;
  })) << "the data set is too friendly";
}

TEST_F(ParityMatrix, OtherSchedulesEqualOneProcess) {
  Case gpipe{.mesh = {.pp = 2, .dp_replicate = 2}, .schedule = PipelineChoice::kGpipe};
  Case plain = gpipe;  // of the same group
  plain.schedule = PipelineChoice::kOneFOneB;
  Case interleaved = gpipe;
  interleaved.schedule = PipelineChoice::kInterleaved;
  interleaved.stages_per_rank = 2;
  const std::vector<Case> cases{gpipe, plain, interleaved};
  check(cases, run_with_references(cases));
}

TEST_F(ParityMatrix, FrozenPartsAndLongPipelinesEqualOneProcess) {
  // Packs without pictures leave the tower without weight gradients: on some ranks only.
  Case patches{.mesh = {.pp = 2, .dp_shard = 2}, .schedule = PipelineChoice::kZeroBubble};
  patches.weights = WeightsChoice::kReshard;
  patches.recompute = Recompute::kFull;
  patches.frozen = FrozenPart::kVisionEmbed;
  Case text{.mesh = {.pp = 2, .tp = 2}};
  text.frozen = FrozenPart::kText;
  Case table = text;  // the head shares it from another stage
  table.frozen = FrozenPart::kTextEmbed;
  Case interleaved{.mesh = {.pp = 4}, .schedule = PipelineChoice::kInterleaved};
  interleaved.stages_per_rank = 2;
  const std::vector<Case> cases{patches, text, table, interleaved};
  check(cases, run_with_references(cases));
}

// Stages do the same sums as one process when no parameter has gradients from two stages (untied
// embeddings) and the norm, which is added up stage by stage, changes no gradient (no clipping).
TEST_F(ParityMatrix, PipelineHasTheBitsOfOneProcess) {
  std::vector<Case> cases;
  for (const PipelineChoice schedule : {PipelineChoice::kOneFOneB, PipelineChoice::kZeroBubble})
    cases.push_back({.mesh = {.pp = 4}, .schedule = schedule, .tied = false, .clip = false});
  const std::map<std::string, Outcome> outcomes = run_with_references(cases);
  check(cases, outcomes);
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name());
    if (outcomes.contains(one.name()))
      expect_same_bits(outcomes.at(one.name()), outcomes.at(one.alone().name()), false);
  }
}

// The comparison can fail: with a frozen tower something else is trained.
TEST_F(ParityMatrix, SeesOtherTraining) {
  Case frozen;
  frozen.frozen = FrozenPart::kVision;
  const std::map<std::string, Outcome> outcomes = run({Case{}, frozen});
  const Outcome& a = outcomes.at(Case{}.name());
  const Outcome& b = outcomes.at(frozen.name());
  EXPECT_EQ(a.losses.front(), b.losses.front());
  EXPECT_GT(std::abs(a.losses.back() - b.losses.back()), 100 * kLossTolerance * b.losses.back());
  int far = 0;
  for (const auto& [name, values] : a.weights)
    far += (b.weights.at(name) - values).norm().item<double>() >
           100 * kWeightTolerance * values.norm().item<double>();
  EXPECT_GT(far, static_cast<int>(a.weights.size()) / 2);
}

}  // namespace
}  // namespace gimbal::parity
