// plan.json back to a plan. Every key is needed, has one type, and no other key is allowed.
#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/config/enums.h"
#include "gimbal/cost/json_fields.h"
#include "gimbal/plan/file/block_runs.h"
#include "gimbal/plan/file/plan_file.h"

namespace gimbal {
namespace {

// A number of any sign: differences of times may be below 0.
double figure(const JsonFields& fields, const std::string& key) {
  const Json& json = fields.value(key);
  if (!json.is_number() || !std::isfinite(json.get<double>()))
    fields.fail(key, "has to be a number");
  return json.get<double>();
}

std::vector<double> figure_list(const JsonFields& fields, const std::string& key) {
  const Json& json = fields.value(key);
  const bool good = json.is_array() && std::all_of(json.begin(), json.end(), [](const Json& entry) {
                      return entry.is_number() && std::isfinite(entry.get<double>());
                    });
  if (!good) fields.fail(key, "has to be a list of numbers");
  return json.get<std::vector<double>>();
}

std::uint64_t whole_figure(const JsonFields& fields, const std::string& key) {
  const Json& json = fields.value(key);
  if (!json.is_number_unsigned()) fields.fail(key, "has to be a whole number of at least 0");
  return json.get<std::uint64_t>();
}

std::vector<JsonFields> object_list(const JsonFields& fields, const std::string& key,
                                    const std::vector<std::string>& known) {
  const Json& json = fields.value(key);
  if (!json.is_array()) fields.fail(key, "has to be a list of objects");
  std::vector<JsonFields> objects;
  for (std::size_t i = 0; i < json.size(); ++i) {
    objects.emplace_back(json[i], fields.where(), concat(fields.full_key(key), "[", i, "]"), known);
  }
  return objects;
}

void read_mesh(const JsonFields& root, MeshShape& mesh) {
  std::vector<std::string> axes;
  visit_axes(mesh, [&](const char* axis, int&) { axes.emplace_back(axis); });
  const JsonFields fields = root.object("mesh", axes);
  visit_axes(mesh, [&](const char* axis, int& size) { size = fields.count(axis); });
  // As a product of doubles, so that no numbers overflow.
  const double devices = 1.0 * mesh.pp * mesh.dp_replicate * mesh.dp_shard * mesh.sp * mesh.tp;
  if (devices > 1e9) root.fail("mesh", concat("makes ", devices, " devices, more than there are"));
  if (mesh.dp_shard * mesh.sp % mesh.ep != 0) {
    fields.fail("ep", concat("is ", mesh.ep,
                             ", which does not divide dp_shard x sp = ", mesh.dp_shard * mesh.sp));
  }
}

void read_schedule(const JsonFields& root, Plan& plan) {
  const JsonFields fields =
      root.object("schedule", {"kind", "ranks", "stages_per_rank", "micro_batches"});
  try {
    plan.schedule.kind = pipeline_kind(fields.text("kind"));
  } catch (const UserError& error) {
    fields.fail("kind", concat("is no schedule: ", error.what()));
  }
  plan.schedule.ranks = fields.count("ranks");
  plan.schedule.stages_per_rank = fields.count("stages_per_rank");
  plan.schedule.micro_batches = fields.count("micro_batches");
  if (plan.schedule.ranks != plan.mesh.pp) {
    fields.fail("ranks", concat("is ", plan.schedule.ranks, ", but mesh.pp is ", plan.mesh.pp));
  }
  // More actions than anyone runs, and than memory holds.
  const double actions =
      1.0 * plan.schedule.ranks * plan.schedule.stages_per_rank * plan.schedule.micro_batches;
  if (actions > 1e7) root.fail("schedule", concat("has ", actions, " actions, the most is 1e7"));
}

void read_packs(const JsonFields& root, Plan& plan) {
  const JsonFields fields = root.object("packs", {"caps", "per_step", "micro_batches"});
  for (const JsonFields& cap : object_list(fields, "caps", {"stream", "rows"})) {
    const std::string stream = cap.text("stream");
    if (std::find(plan.streams.begin(), plan.streams.end(), stream) != plan.streams.end()) {
      cap.fail("stream", concat("is ", stream, ", which has a cap already"));
    }
    plan.streams.push_back(stream);
    plan.caps.push_back(whole_figure(cap, "rows"));
  }
  plan.packs_per_step = whole_figure(fields, "per_step");
  plan.micro_batches = fields.count("micro_batches");
  if (plan.micro_batches != plan.schedule.micro_batches) {
    fields.fail("micro_batches",
                concat("is ", plan.micro_batches, ", but schedule.micro_batches is ",
                       plan.schedule.micro_batches));
  }
  const double ranks = 1.0 * plan.mesh.dp_replicate * plan.mesh.dp_shard;
  if (static_cast<double>(plan.packs_per_step) != ranks * plan.micro_batches) {
    fields.fail("per_step",
                concat("is ", plan.packs_per_step, ", but ", ranks, " data-parallel ranks with ",
                       plan.micro_batches, " micro-batches run ", ranks * plan.micro_batches));
  }
}

// The levels of the stage's `size` blocks, which begin at block `begin`.
void read_levels(const JsonFields& stage, std::size_t begin, std::size_t size, Plan& plan) {
  std::vector<Recompute>& levels = plan.layout.recompute;
  for (const JsonFields& run : object_list(stage, "recompute", {"level", "num_blocks"})) {
    const std::string name = run.text("level");
    const auto level = enum_value<Recompute>(name);
    if (!level) {
      run.fail("level", concat("is '", name, "', expected one of ", enum_choices<Recompute>(", ")));
    }
    const auto count = static_cast<std::size_t>(run.count("num_blocks"));
    if (count > begin + size - levels.size()) {
      run.fail("num_blocks",
               concat("gives levels for more blocks than the ", size, " of the stage"));
    }
    levels.insert(levels.end(), count, *level);
  }
  if (levels.size() != begin + size) {
    stage.fail("recompute",
               concat("gives levels for ", levels.size() - begin, " of ", size, " blocks"));
  }
}

void read_frozen(const JsonFields& model, const std::string& where, Plan& plan) {
  const std::vector<std::string> runs = model.texts("frozen");
  if (runs.empty()) return;
  plan.frozen.assign(plan.blocks.size(), false);
  for (const std::string& name : block_names(runs, where + ": key 'model.frozen'")) {
    const auto block = std::find(plan.blocks.begin(), plan.blocks.end(), name);
    if (block == plan.blocks.end()) {
      model.fail("frozen", concat("names ", name, ", which is no block of the model"));
    }
    plan.frozen[static_cast<std::size_t>(block - plan.blocks.begin())] = true;
  }
}

void read_stage(const JsonFields& stage, Plan& plan) {
  const std::size_t begin = plan.layout.stage_begin.back(), left = plan.blocks.size() - begin;
  const std::string first = stage.text("first"), last = stage.text("last");
  const auto size = static_cast<std::size_t>(stage.count("num_blocks"));
  if (left == 0) {
    stage.fail("first",
               concat("is ", first, ", but the stages before have all ", begin, " blocks"));
  }
  if (first != plan.blocks[begin]) {
    stage.fail("first", concat("is ", first, ", but the next block is ", plan.blocks[begin],
                               "; stages have every block once, in order"));
  }
  if (size > left) {
    stage.fail("num_blocks", concat("is ", size, ", but only ", left, " blocks are left"));
  }
  if (last != plan.blocks[begin + size - 1]) {
    stage.fail("last", concat("is ", last, ", but ", size, " blocks from ", first, " on end with ",
                              plan.blocks[begin + size - 1]));
  }
  read_levels(stage, begin, size, plan);
  plan.layout.stage_begin.push_back(begin + size);
}

void read_stages(const JsonFields& root, Plan& plan) {
  plan.layout.stage_begin = {0};
  for (const JsonFields& stage :
       object_list(root, "stages", {"first", "last", "num_blocks", "recompute"})) {
    read_stage(stage, plan);
  }
  const std::size_t covered = plan.layout.stage_begin.back();
  if (covered != plan.blocks.size()) {
    root.fail("stages", concat("ends with block ", covered == 0 ? "none" : plan.blocks[covered - 1],
                               ", but the model ends with ", plan.blocks.back(),
                               "; stages have every block once"));
  }
  const double stages = 1.0 * plan.schedule.ranks * plan.schedule.stages_per_rank;
  if (static_cast<double>(plan.layout.num_stages()) != stages) {
    root.fail("stages", concat("has ", plan.layout.num_stages(), " entries, but the schedule has ",
                               plan.schedule.ranks, " ranks with ", plan.schedule.stages_per_rank,
                               " stages each"));
  }
}

Prediction read_prediction(const JsonFields& root, int ranks) {
  const JsonFields fields =
      root.object("prediction", {"step", "bound", "stage_seconds", "peak_bytes", "capacity_bytes",
                                 "samples_per_step", "tokens_per_second_per_device", "utilisation",
                                 "epoch_seconds", "micro_batch_seconds"});
  Prediction prediction;
  const JsonFields step = fields.object(
      "step", {"seconds", "compute", "recompute", "communication", "bubble", "imbalance"});
  prediction.step = {figure(step, "seconds"),   figure(step, "compute"),
                     figure(step, "recompute"), figure(step, "communication"),
                     figure(step, "bubble"),    figure(step, "imbalance")};
  const JsonFields bound = fields.object("bound", {"work", "critical_path", "memory", "fill"});
  prediction.bound.work = figure(bound, "work");
  prediction.bound.critical_path = figure(bound, "critical_path");
  prediction.bound.memory = figure(bound, "memory");
  prediction.bound.fill = figure(bound, "fill");
  prediction.stage_seconds = figure_list(fields, "stage_seconds");
  prediction.peak_bytes = figure_list(fields, "peak_bytes");
  if (!prediction.peak_bytes.empty() &&
      prediction.peak_bytes.size() != static_cast<std::size_t>(ranks)) {
    fields.fail("peak_bytes",
                concat("has ", prediction.peak_bytes.size(), " values, but mesh.pp is ", ranks));
  }
  prediction.capacity_bytes = figure(fields, "capacity_bytes");
  prediction.samples_per_step = figure(fields, "samples_per_step");
  prediction.tokens_per_second_per_device = figure(fields, "tokens_per_second_per_device");
  prediction.utilisation = figure(fields, "utilisation");
  prediction.epoch_seconds = figure(fields, "epoch_seconds");
  for (const JsonFields& time :
       object_list(fields, "micro_batch_seconds", {"class", "forward", "backward"})) {
    prediction.classes.push_back(
        {time.text("class"), figure(time, "forward"), figure(time, "backward")});
  }
  return prediction;
}

}  // namespace

Plan plan_from_json(const Json& json, const std::string& where) {
  // A file of another version may have other keys, so its version comes first.
  const std::uint64_t format =
      json.is_object() && json.contains("gimbal_plan") && json["gimbal_plan"].is_number_unsigned()
          ? json["gimbal_plan"].get<std::uint64_t>()
          : 0;
  GIMBAL_USER_CHECK(format != 0, where,
                    ": key 'gimbal_plan' is missing: this is no plan; make one "
                    "with `gimbal plan --out FILE`");
  GIMBAL_USER_CHECK(format == kPlanFormat, where, ": is a plan of format ", format,
                    "; this version reads format ", kPlanFormat,
                    "; make it again with gimbal plan");
  const JsonFields root(json, where, "",
                        {"gimbal_plan", "method", "model", "profile", "mesh", "shard_policy",
                         "schedule", "packs", "stages", "prediction"});
  Plan plan;
  plan.method = root.text("method");
  const JsonFields model = root.object("model", {"type", "fingerprint", "blocks", "frozen"});
  plan.model_type = model.text("type");
  plan.model_fingerprint = model.text("fingerprint");
  plan.blocks = block_names(model.texts("blocks"), where + ": key 'model.blocks'");
  read_frozen(model, where, plan);
  const JsonFields profile = root.object("profile", {"origin", "hardware", "dtype"});
  plan.profile_origin = profile.text("origin");
  plan.hardware = profile.text("hardware");
  plan.dtype = profile.text("dtype");
  read_mesh(root, plan.mesh);
  const std::string policy = root.text("shard_policy");
  if (policy != "reshard" && policy != "keep_weights") {
    root.fail("shard_policy", concat("is '", policy, "', expected keep_weights or reshard"));
  }
  plan.shard_policy = policy == "reshard" ? ShardPolicy::kReshard : ShardPolicy::kKeepWeights;
  read_schedule(root, plan);
  read_packs(root, plan);
  read_stages(root, plan);
  plan.prediction = read_prediction(root, plan.mesh.pp);
  return plan;
}

}  // namespace gimbal
