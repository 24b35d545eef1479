#include "gimbal/plan/file/plan_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/plan/file/block_runs.h"
#include "unit/plan/random_plan.h"

namespace gimbal {
namespace {

// Every field, so that one that a file forgets is noticed.
void expect_same_plan(const Plan& a, const Plan& b) {
  RC_ASSERT(a.model_type == b.model_type && a.model_fingerprint == b.model_fingerprint);
  RC_ASSERT(a.profile_origin == b.profile_origin && a.hardware == b.hardware);
  RC_ASSERT(a.dtype == b.dtype && a.method == b.method);
  RC_ASSERT(a.mesh == b.mesh);
  RC_ASSERT(a.streams == b.streams && a.caps == b.caps);
  RC_ASSERT(a.packs_per_step == b.packs_per_step && a.micro_batches == b.micro_batches);
  RC_ASSERT(a.schedule.kind == b.schedule.kind && a.schedule.ranks == b.schedule.ranks);
  RC_ASSERT(a.schedule.stages_per_rank == b.schedule.stages_per_rank);
  RC_ASSERT(a.schedule.micro_batches == b.schedule.micro_batches);
  RC_ASSERT(a.shard_policy == b.shard_policy);
  RC_ASSERT(a.blocks == b.blocks);
  RC_ASSERT(a.layout.stage_begin == b.layout.stage_begin);
  RC_ASSERT(a.layout.recompute == b.layout.recompute);
  const Prediction &p = a.prediction, &q = b.prediction;
  const auto figures = [](const Prediction& own) {
    return std::vector<double>{own.step.seconds,
                               own.step.compute,
                               own.step.recompute,
                               own.step.communication,
                               own.step.bubble,
                               own.step.imbalance,
                               own.bound.work,
                               own.bound.critical_path,
                               own.bound.memory,
                               own.bound.fill,
                               own.capacity_bytes,
                               own.samples_per_step,
                               own.tokens_per_second_per_device,
                               own.utilisation,
                               own.epoch_seconds};
  };
  RC_ASSERT(figures(p) == figures(q));
  RC_ASSERT(p.peak_bytes == q.peak_bytes && p.stage_seconds == q.stage_seconds);
  RC_ASSERT(p.classes.size() == q.classes.size());
  for (std::size_t i = 0; i < p.classes.size(); ++i) {
    RC_ASSERT(p.classes[i].cost_class == q.classes[i].cost_class);
    RC_ASSERT(p.classes[i].forward == q.classes[i].forward);
    RC_ASSERT(p.classes[i].backward == q.classes[i].backward);
  }
}

TEST(PlanFile, PropertyTextComesBackAsTheSamePlan) {
  testing::check_cases(300, [] {
    const Plan plan = testing::random_plan();
    expect_same_plan(plan, plan_from_json(Json::parse(to_json(plan).dump(2)), "plan.json"));
  });
}

TEST(PlanFile, PropertyBlockNamesComeBackFromRuns) {
  testing::check_cases(300, [] {
    const std::vector<std::string> names = testing::random_block_names();
    RC_ASSERT(block_names(block_runs(names), "x") == names);
  });
}

TEST(PlanFile, WritesNumberedBlocksAsRuns) {
  EXPECT_EQ(block_runs({"vision.embed", "vision.0", "vision.1", "vision.2", "text.0", "text.2"}),
            (std::vector<std::string>{"vision.embed", "vision.0 .. vision.2", "text.0", "text.2"}));
}

// Two stages of three blocks each on two ranks.
Plan two_stages() {
  Plan plan;
  plan.model_type = "qwen2";
  plan.method = "gimbal";
  plan.mesh.pp = 2;
  plan.mesh.dp_shard = 3;
  plan.streams = {"text"};
  plan.caps = {4096};
  plan.micro_batches = 4;
  plan.packs_per_step = 12;
  plan.schedule = {PipelineKind::kOneFOneB, 2, 1, 4};
  plan.blocks = {"text.embed", "text.0", "text.1", "text.2", "text.norm", "text.head"};
  plan.layout = {{0, 3, 6},
                 {Recompute::kKeep, Recompute::kFull, Recompute::kFull, Recompute::kAttention,
                  Recompute::kKeep, Recompute::kKeep}};
  plan.prediction.peak_bytes = {1e9, 2e9};
  return plan;
}

TEST(PlanFile, SavesAndLoads) {
  const std::filesystem::path file =
      std::filesystem::path(::testing::TempDir()) / "gimbal_plan_file_test.json";
  save_plan(two_stages(), file);
  EXPECT_EQ(to_json(load_plan(file)), to_json(two_stages()));
  std::filesystem::remove(file);
}

TEST(PlanFile, IsForPeople) {
  const OrderedJson json = to_json(two_stages());
  EXPECT_EQ(json.begin().key(), "gimbal_plan");
  EXPECT_EQ(json["model"]["blocks"].dump(),
            R"(["text.embed","text.0 .. text.2","text.norm","text.head"])");
  EXPECT_EQ(json["stages"][0].dump(),
            R"({"first":"text.embed","last":"text.1","num_blocks":3,"recompute":)"
            R"([{"level":"keep","num_blocks":1},{"level":"full","num_blocks":2}]})");
}

struct BadFile {
  const char* pointer;  // what is replaced; a last name that is not there is added
  const char* value;    // JSON; "-" removes
  const char* message;
};

class PlanFileErrors : public ::testing::TestWithParam<BadFile> {};

TEST_P(PlanFileErrors, NamesFileAndKey) {
  Json json = Json::parse(to_json(two_stages()).dump());
  const BadFile& bad = GetParam();
  const Json::json_pointer pointer(bad.pointer);
  if (std::string(bad.value) == "-") {
    Json& parent = json[pointer.parent_pointer()];
    if (parent.is_array()) {
      parent.erase(std::stoul(pointer.back()));
    } else {
      parent.erase(pointer.back());
    }
  } else {
    json[pointer] = Json::parse(bad.value);
  }
  try {
    plan_from_json(json, "dir/plan.json");
    FAIL() << "read " << json.dump(2);
  } catch (const UserError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find("dir/plan.json: "), 0U) << message;
    EXPECT_NE(message.find(bad.message), std::string::npos) << message;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Plan, PlanFileErrors,
    ::testing::Values(
        BadFile{"/gimbal_plan", "2", "is a plan of format 2; this version reads format 1"},
        BadFile{"/gimbal_plan", "-", "'gimbal_plan' is missing: this is no plan"},
        BadFile{"/method", "-", "'method' is missing"},
        BadFile{"/method", "3", "'method' has to be a text"},
        BadFile{"/extra", "1", "'extra' is unknown"},
        BadFile{"/shard_polcy", "1", "'shard_polcy' is unknown; did you mean 'shard_policy'?"},
        BadFile{"/mesh", "3", "'mesh' has to be an object"},
        BadFile{"/mesh/tpp", "1", "'mesh.tpp' is unknown; did you mean 'mesh.pp'?"},
        BadFile{"/mesh/tp", "-", "'mesh.tp' is missing"},
        BadFile{"/mesh/tp", "0", "'mesh.tp' has to be a whole number of at least 1"},
        BadFile{"/mesh/tp", "1.5", "'mesh.tp' has to be a whole number"},
        BadFile{"/mesh/tp", "-1", "'mesh.tp' has to be a finite number of at least 0, not -1"},
        BadFile{"/mesh/tp", "1073741824", "more than there are"},
        BadFile{"/mesh/ep", "2", "'mesh.ep' is 2, which does not divide dp_shard x sp = 3"},
        BadFile{"/mesh/pp", "3", "'schedule.ranks' is 2, but mesh.pp is 3"},
        BadFile{"/mesh/dp_shard", "2", "'packs.per_step' is 12, but 2 data-parallel ranks"},
        BadFile{"/shard_policy", "\"zero3\"", "'shard_policy' is 'zero3', expected keep_weights"},
        BadFile{"/schedule/kind", "\"pipedream\"", "'schedule.kind' is no schedule: "},
        BadFile{"/schedule/stages_per_rank", "2", "'stages' has 2 entries, but the schedule has"},
        BadFile{"/schedule/micro_batches", "5", "'packs.micro_batches' is 4, but"},
        BadFile{"/schedule/micro_batches", "100000000", "the most is 1e7"},
        BadFile{"/packs/caps", "{}", "'packs.caps' has to be a list of objects"},
        BadFile{"/packs/caps/0/rows", "-3", "'packs.caps[0].rows' has to be a whole number"},
        BadFile{"/packs/caps/1", R"({"stream": "text", "rows": 1})",
                "'packs.caps[1].stream' is text, which has a cap already"},
        BadFile{"/packs/per_step", "13", "'packs.per_step' is 13"},
        BadFile{"/model/blocks", "[]", "'model.blocks': names no block"},
        BadFile{"/model/blocks", "[1]", "'model.blocks' has to be a list of texts"},
        BadFile{"/model/blocks/1", "\"text.0 .. vision.2\"", "found 'text.0 .. vision.2'"},
        BadFile{"/model/blocks/1", "\"text.2 .. text.0\"", "found 'text.2 .. text.0'"},
        BadFile{"/model/blocks/3", "\"text.1\"", "block text.1 occurs twice"},
        BadFile{"/stages/0/first", "\"text.0\"",
                "'stages[0].first' is text.0, but the next block is text.embed"},
        BadFile{"/stages/0/last", "\"text.2\"", "'stages[0].last' is text.2, but 3 blocks from"},
        BadFile{"/stages/0/num_blocks", "2", "'stages[0].last' is text.1, but 2 blocks"},
        BadFile{"/stages/1/num_blocks", "4", "'stages[1].num_blocks' is 4, but only 3"},
        BadFile{"/stages/1", "-", "'stages' ends with block text.1, but the model ends with"},
        BadFile{"/stages", "[]", "'stages' ends with block none"},
        BadFile{"/stages/2", R"({"first": "text.head", "last": "text.head", "num_blocks": 1,
                                 "recompute": []})",
                "'stages[2].first' is text.head, but the stages before have all 6 blocks"},
        BadFile{"/stages/0/recompute/1/level", "\"none\"",
                "'stages[0].recompute[1].level' is 'none', expected one of keep"},
        BadFile{"/stages/0/recompute/1/num_blocks", "3", "levels for more blocks than the 3"},
        BadFile{"/stages/0/recompute/1/num_blocks", "1", "gives levels for 2 of 3 blocks"},
        BadFile{"/stages/0/recompute/1/blocks", "2", "'stages[0].recompute[1].blocks' is unknown"},
        BadFile{"/stages/0/reccompute", "2", "did you mean 'stages[0].recompute'?"},
        BadFile{"/prediction/step/seconds", "\"1\"",
                "'prediction.step.seconds' has to be a number"},
        BadFile{"/prediction/step/seconds", "null", "'prediction.step.seconds' has to be a number"},
        BadFile{"/prediction/bound/work", "-", "'prediction.bound.work' is missing"},
        BadFile{"/prediction/peak_bytes", "[1]", "'prediction.peak_bytes' has 1 values"},
        BadFile{"/prediction/peak_bytes", "[1, null]", "has to be a list of numbers"},
        BadFile{"/prediction/micro_batch_seconds", "[{}]",
                "'prediction.micro_batch_seconds[0].class' is missing"}));

TEST(PlanFile, SaysWhatIsMissingOfAFile) {
  EXPECT_THROW(load_plan("no/such/plan.json"), UserError);
}

}  // namespace
}  // namespace gimbal
