#include "gimbal/profile/memory.h"

#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/nn/gemm.h"

namespace gimbal {

namespace {

/// A line such as "VmHWM: 123 kB" of the process' status, in bytes.
std::int64_t status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoll(line.substr(key.size())) * 1024;
  }
  rusage usage{};
  GIMBAL_CHECK(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

/// Gradients of activations while the block's backward runs: of its output, of its input, and of
/// what lies between, half of which autograd has freed when the other half has its gradients.
double gradient_values(const BlockDesc& block, const WorkSize& work) {
  double between = 0;
  for (const PartDesc& part : block.parts)
    between = std::max(between, part.saved_values_per_row - part.input_values_per_row);
  return (2 * block.output_values_per_row + between / 2) * work_rows(block, work);
}

/// Values of the head's weight, the embedding's if it is tied.
double head_weight_values(const ModelDesc& model, std::size_t head) {
  return static_cast<double>(model.vocab_size) * model.blocks.at(head - 1).output_values_per_row;
}

/// The head computes a few rows of logits at a time, in the compute dtype and in float32, and adds
/// up the weight's gradient in float32 (nn/linear_cross_entropy.cpp).
double head_forward_bytes(const ModelDesc& model, std::size_t head, const WorkSize& work,
                          const MemorySetting& setting, bool weight_gradient) {
  const double wide = std::max(setting.compute_bytes, 4);
  const double both = setting.compute_bytes < 4 ? setting.compute_bytes + wide : wide;
  // The vocabulary is cut over tp ranks, which have the rows of all of them.
  const double vocab = static_cast<double>(model.vocab_size) / setting.tp;
  const double rows =
      std::min(work.loss_rows * setting.tp, static_cast<double>(setting.loss_chunk_rows));
  double bytes = rows * vocab * both;
  if (!weight_gradient) return bytes;
  // The sum and the product that is added to it, in the compute dtype and as float32.
  const double weight = head_weight_values(model, head) / setting.tp;
  bytes += weight * (wide + both);
  // The product reads the logits transposed.
  if (setting.compute_bytes == 4 &&
      gemm_copies_transposed(static_cast<std::int64_t>(vocab),
                             static_cast<std::int64_t>(weight / vocab),
                             static_cast<std::int64_t>(rows))) {
    bytes += rows * vocab * wide;
  }
  return bytes;
}

/// Whether the weight of the head gets a gradient: its own, or that of the embedding that it uses.
bool head_is_trained(const ModelDesc& model, std::size_t head, const std::vector<bool>& frozen) {
  if (!model.tied_embeddings) return !frozen[head];
  for (std::size_t i = 0; i < head; ++i) {
    if (model.blocks[i].kind == BlockKind::kTextEmbed) return !frozen[i];
  }
  return false;
}

int in_flight_of(const MemorySetting& setting, std::size_t block) {
  return setting.in_flight.empty() ? 1 : setting.in_flight[block];
}

}  // namespace

std::int64_t resident_bytes() { return status_bytes("VmRSS:"); }

std::int64_t peak_resident_bytes() { return status_bytes("VmHWM:"); }

void reset_peak_resident_bytes() {
  // Where the system does not allow it, the peak stays that of the whole process.
  std::ofstream("/proc/self/clear_refs") << "5";
}

MemoryEstimate estimate_training_memory(const ModelDesc& model, const WorkSize& work,
                                        const MemorySetting& setting) {
  GIMBAL_CHECK_EQ(setting.frozen.size(), model.blocks.size());
  const double master = setting.master_bytes;
  const double compute = setting.compute_bytes;
  const double shards = setting.dp_shard;
  // Blocks use the master values themselves, or a copy in another dtype or gathered from shards.
  const bool has_copy = setting.compute_bytes != setting.master_bytes || setting.dp_shard > 1;
  MemoryEstimate estimate;
  double copies = 0, largest_copy = 0, largest_gradient = 0;
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    if (in_flight_of(setting, i) == 0) continue;
    const double values = static_cast<double>(model.blocks[i].num_parameters) / setting.tp;
    estimate.parameter_bytes += values * master / shards;
    if (has_copy) copies += values * compute;
    largest_copy = std::max(largest_copy, values * compute);
    if (setting.frozen[i]) continue;
    largest_gradient = std::max(largest_gradient, values * master);
    estimate.gradient_bytes += setting.reshard ? values * master / shards : values * master;
    if (!setting.reshard && setting.dp_shard > 1)
      estimate.gradient_bytes += values * master / shards;
    estimate.optimizer_bytes += values * 2 * master / shards;
  }
  const bool frees = setting.reshard && setting.dp_shard > 1;
  // Two blocks are gathered at a time, and one has its whole gradient.
  estimate.parameter_bytes += frees ? std::min(copies, 2 * largest_copy) : copies;
  if (frees) estimate.gradient_bytes += largest_gradient;
  estimate.activation_bytes = peak_activation_bytes(model, work, setting);
  return estimate;
}

double peak_activation_bytes(const ModelDesc& model, const WorkSize& work,
                             const MemorySetting& setting) {
  GIMBAL_CHECK_EQ(setting.frozen.size(), model.blocks.size());
  GIMBAL_CHECK_EQ(setting.levels.size(), model.blocks.size());
  const std::vector<GradientNeed> needs = gradient_needs(model, setting.frozen);
  const WorkSize own_work = 1.0 / (setting.sp * setting.tp) * work;
  const double compute = setting.compute_bytes;
  double others = 0;  // bytes that the other micro-batches under way have saved
  double saved = 0;   // bytes of this one, of the blocks up to this one
  double peak = 0;    // above `others`
  for (std::size_t i = 0; i < model.blocks.size(); ++i) {
    const int in_flight = in_flight_of(setting, i);
    if (in_flight == 0) continue;
    const BlockDesc& block = model.blocks[i];
    const double num_parameters = static_cast<double>(block.num_parameters) / setting.tp;
    const bool trained_head =
        block.kind == BlockKind::kTextHead && head_is_trained(model, i, setting.frozen);
    const bool has_backward = needs[i].weights || needs[i].inputs || trained_head;
    if (has_backward) {
      const double bytes = saved_values(block, own_work, setting.levels[i]) * compute;
      saved += bytes;
      others += bytes * (in_flight - 1);
    }
    double moment = 0;
    if (has_backward) {
      moment = (recomputed_values(block, own_work, setting.levels[i]) +
                gradient_values(block, own_work)) *
               compute;
      // Gradients of parameters in the compute dtype, until they are added to the step's.
      if (setting.compute_bytes != setting.master_bytes && needs[i].weights)
        moment += num_parameters * compute;
      // That of an embedding has all rows, whatever the batch; to be added it is widened whole.
      if (block.kind == BlockKind::kTextEmbed && needs[i].weights)
        moment += num_parameters * setting.master_bytes;
    }
    if (block.kind == BlockKind::kTextHead)
      moment = std::max(moment, head_forward_bytes(model, i, own_work, setting, trained_head));
    peak = std::max(peak, saved + moment);
  }
  return peak + others;
}

}  // namespace gimbal
