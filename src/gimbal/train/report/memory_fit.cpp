#include "gimbal/train/report/memory_fit.h"

#include <algorithm>
#include <array>

#include "gimbal/base/byte_text.h"
#include "gimbal/base/error.h"
#include "gimbal/train/report/progress.h"

namespace gimbal {
namespace {

constexpr std::size_t kNamedSamples = 4;

}  // namespace

double MemoryFit::needed_bytes() const {
  return program_bytes + std::max(planned_bytes.value_or(0), memory.total_bytes());
}

MemoryFit find_memory_fit(StepPlanner& planner, const Dataset& dataset, std::uint64_t epoch,
                          const ModelDesc& model, const MemorySetting& setting) {
  MemoryFit fit;
  fit.largest = planner.heaviest_micro_batch(
      epoch, [&](const WorkSize& work) { return peak_activation_bytes(model, work, setting); });
  fit.memory = estimate_training_memory(model, fit.largest.work, setting);
  for (const std::uint32_t sample : fit.largest.samples)
    fit.samples.push_back(dataset.describe_sample(sample));
  return fit;
}

std::string encode_fit(const MemoryFit& fit) {
  const WorkSize& work = fit.largest.work;
  const MemoryEstimate& memory = fit.memory;
  Json json{
      {"step_in_epoch", fit.largest.step_in_epoch},
      {"data_rank", fit.largest.rank},
      {"work",
       {work.text_rows, work.text_pairs, work.loss_rows, work.vision_rows, work.vision_pairs}},
      {"memory",
       {memory.parameter_bytes, memory.gradient_bytes, memory.optimizer_bytes,
        memory.activation_bytes}},
      {"program_bytes", fit.program_bytes},
      {"machine_bytes", fit.machine_bytes},
      {"samples", fit.samples},
      {"coordinates", fit.coordinates}};
  if (fit.planned_bytes) json["planned_bytes"] = *fit.planned_bytes;
  return json.dump();
}

MemoryFit decode_fit(const std::string& text) {
  const Json json = Json::parse(text);
  const auto work = json.at("work").get<std::array<double, 5>>();
  const auto memory = json.at("memory").get<std::array<double, 4>>();
  MemoryFit fit;
  fit.largest.step_in_epoch = json.at("step_in_epoch").get<std::uint64_t>();
  fit.largest.rank = json.at("data_rank").get<int>();
  fit.largest.work = {work[0], work[1], work[2], work[3], work[4]};
  fit.memory = {memory[0], memory[1], memory[2], memory[3]};
  fit.program_bytes = json.at("program_bytes").get<double>();
  fit.machine_bytes = json.at("machine_bytes").get<double>();
  if (json.contains("planned_bytes")) fit.planned_bytes = json.at("planned_bytes").get<double>();
  fit.samples = json.at("samples").get<std::vector<std::string>>();
  fit.coordinates = json.at("coordinates").get<std::string>();
  return fit;
}

MemoryFit tightest_fit(const std::vector<MemoryFit>& fits) {
  return *std::ranges::max_element(
      fits, {}, [](const MemoryFit& fit) { return fit.needed_bytes() - fit.machine_bytes; });
}

Json to_json(const MemoryFit& fit) {
  Json json{{"fits", fit.fits()},
            {"needed_bytes", fit.needed_bytes()},
            {"machine_bytes", fit.machine_bytes},
            {"data_rank", fit.largest.rank},
            {"coordinates", fit.coordinates},
            {"step_in_epoch", fit.largest.step_in_epoch},
            {"tokens", fit.largest.work.text_rows},
            {"vision_rows", fit.largest.work.vision_rows},
            {"samples", fit.samples}};
  if (fit.planned_bytes) json["planned_bytes"] = *fit.planned_bytes;
  return json;
}

std::string to_text(const MemoryFit& fit) {
  const auto count = [](double rows) { return format_count(static_cast<std::uint64_t>(rows)); };
  std::string text = fit.fits() ? "yes" : "NO";
  text += ": needs about " + bytes_text(fit.needed_bytes()) + " of " +
          bytes_text(fit.machine_bytes) + " for the largest micro-batch (" +
          count(fit.largest.work.text_rows) + " tokens, " + count(fit.largest.work.vision_rows) +
          " vision rows; data rank " + std::to_string(fit.largest.rank) + ", step " +
          format_count(fit.largest.step_in_epoch + 1) + " of the epoch" +
          (fit.coordinates.empty() ? "" : "; the rank at " + fit.coordinates + " has least room") +
          "): ";
  const std::size_t named = std::min(fit.samples.size(), kNamedSamples);
  for (std::size_t i = 0; i < named; ++i) text += (i > 0 ? ", " : "") + fit.samples[i];
  if (fit.samples.size() > named)
    text += " and " + format_count(fit.samples.size() - named) + " more";
  return text;
}

std::string fit_warning(const MemoryFit& fit) {
  return concat("the largest micro-batch needs about ", bytes_text(fit.needed_bytes()),
                " and this process may use ", bytes_text(fit.machine_bytes),
                ". The run may end out of memory: lower balance.text_cap and balance.vision_cap, "
                "set model.recompute=full or a higher balance.micro_batches, or leave out the "
                "samples named above (balance.oversize=reject with lower caps).");
}

void check_plan_fits(const Plan& plan, const std::string& plan_file, double machine_bytes) {
  if (plan.prediction.peak_bytes.empty()) return;
  const double peak = *std::ranges::max_element(plan.prediction.peak_bytes);
  GIMBAL_USER_CHECK(peak <= machine_bytes, "plan '", plan_file, "' needs ", bytes_text(peak),
                    " in each process, but a process may use ", bytes_text(machine_bytes),
                    " here. Plan for this machine: measure it with `gimbal profile`, or give "
                    "`gimbal plan` its --memory.");
}

}  // namespace gimbal
