// A profile from a machine's data sheet: FLOPs over the share of the peak that work of this kind
// reaches, plus bytes over the memory's bandwidth.
#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/cost/hardware.h"
#include "gimbal/cost/model_fingerprint.h"

namespace gimbal {
namespace {

// Of the data sheet's bandwidth; copies and elementwise kernels reach 0.8 to 0.9.
constexpr double kBandwidthShare = 0.8;
// An elementwise kernel per kept value and pass: read and write in forward; read the gradient,
// read the value, write the gradient in backward.
constexpr double kForwardMoves = 2, kBackwardMoves = 3;
// FlashAttention's backward does 5 products where forward does 2 (Dao et al. 2022, section B).
constexpr double kAttentionBackward = 2.5;
// AdamW reads master, gradient and two moments in float32 and writes back all but the gradient;
// clipping reads the gradient once more.
constexpr double kOptimizerBytes = 16 + 12 + 4;

// The head computes this many rows of logits at a time (train.loss_chunk_rows), in float32: logits,
// logarithms of probabilities and gradients.
constexpr double kChunkRows = 1024, kLogitBytes = 4, kLogitCopies = 3;

struct Rates {
  double products = 0, attention = 0;  // FLOP/s
  double memory = 0;                   // bytes/s
  double value_bytes = 0;
  Seconds launch = 0;
};

// Seconds per row (and pair) of forward work, by what limits them.
struct PartTimes {
  double products = 0, attention = 0, attention_pairs = 0;
  double moved = 0;  // one pass over the kept values
};

Rates rates_of(const BlockDesc& block, const Hardware& hardware, const std::string& dtype) {
  const auto peak = hardware.peak_flops.find(dtype);
  if (peak == hardware.peak_flops.end()) {
    std::string known;
    for (const auto& [name, flops] : hardware.peak_flops)
      known += (known.empty() ? "" : ", ") + name;
    throw UserError(concat("hardware '", hardware.name, "' has no peak for dtype '", dtype,
                           "', only for ", known, "; choose one of these or add it to the file"));
  }
  const bool vision = block.kind == BlockKind::kVisionEmbed ||
                      block.kind == BlockKind::kVisionLayer || block.kind == BlockKind::kProjector;
  const std::string part = vision ? "vision" : "text";
  const bool head = block.kind == BlockKind::kTextHead;
  Rates rates;
  rates.products = peak->second * hardware.efficiency.at(head ? "head" : part + "_products");
  rates.attention = peak->second * hardware.efficiency.at(part + "_attention");
  rates.memory = kBandwidthShare * hardware.memory_bandwidth;
  rates.value_bytes = dtype == "float32" ? 4 : 2;
  rates.launch = hardware.launch_seconds;
  return rates;
}

PartTimes part_times(const PartDesc& part, const Rates& rates) {
  return {.products = part.product_flops_per_row / rates.products,
          .attention = part.attention_flops_per_row / rates.attention,
          .attention_pairs = part.attention_flops_per_pair / rates.attention,
          .moved = part.saved_values_per_row * rates.value_bytes / rates.memory};
}

CostLine forward_line(const PartTimes& times, Seconds launch) {
  return {launch, times.products + times.attention + kForwardMoves * times.moved,
          times.attention_pairs};
}

WorkSize one_row() { return {.text_rows = 1, .loss_rows = 1, .vision_rows = 1}; }

void add_line(CostLine& sum, const CostLine& line) {
  sum.base += line.base;
  sum.per_row += line.per_row;
  sum.per_pair += line.per_pair;
}

BlockCost times_of(const BlockDesc& block, const Rates& rates, double vocab_size) {
  BlockCost cost;
  const double parts = static_cast<double>(block.parts.size());
  const double output = block.output_values_per_row * rates.value_bytes / rates.memory;
  cost.forward.per_row += kForwardMoves * output;
  cost.backward_input = {rates.launch, kForwardMoves * output, 0};
  cost.backward_weight = {rates.launch, 0, 0};
  for (std::size_t p = 0; p < block.parts.size(); ++p) {
    const PartTimes times = part_times(block.parts[p], rates);
    const CostLine forward = forward_line(times, rates.launch / parts);
    add_line(cost.forward, forward);
    add_line(
        cost.backward_input,
        {0, times.products + kAttentionBackward * times.attention + kBackwardMoves * times.moved,
         kAttentionBackward * times.attention_pairs});
    cost.backward_weight.per_row += times.products;
    for (const Recompute level : recompute_levels(block)) {
      const bool again = level == Recompute::kFull || (level == Recompute::kAttention && p == 0) ||
                         (level == Recompute::kMlp && p == 1);
      if (again) add_line(cost.recompute[static_cast<std::size_t>(level)], forward);
    }
  }
  if (block.kind == BlockKind::kTextEmbed || block.kind == BlockKind::kVisionEmbed) {
    // Rows are looked up, or come from pixels: the gradient of the output is added to the weights.
    cost.backward_weight.per_row += kBackwardMoves * output;
  }
  if (block.kind == BlockKind::kTextHead) {
    const double logits = vocab_size * kLogitBytes / rates.memory;
    cost.forward.per_row += kForwardMoves * logits;
    cost.backward_input.per_row += kBackwardMoves * logits;
  }
  return cost;
}

void add_bytes(const BlockDesc& block, const Rates& rates, double vocab_size, BlockCost& cost) {
  const WorkSize row = one_row();
  double largest_part = 0, largest_transient = 0;
  for (const PartDesc& part : block.parts) {
    largest_part = std::max(largest_part, part.saved_values_per_row);
    largest_transient =
        std::max(largest_transient, part.saved_values_per_row - part.input_values_per_row);
  }
  const auto bytes = [&](double values) { return CostLine{0, values * rates.value_bytes, 0}; };
  const bool head = block.kind == BlockKind::kTextHead;
  // A tied head owns no weight, but computes the gradient of one.
  const double weight = head ? block.parts.front().product_flops_per_row / 2 : 0;
  // Gradients of parameters in a narrower dtype, until they are added to those of the step.
  const double gradients = head                    ? weight
                           : rates.value_bytes < 4 ? static_cast<double>(block.num_parameters)
                                                   : 0;
  for (const Recompute level : recompute_levels(block)) {
    const auto l = static_cast<std::size_t>(level);
    cost.saved[l] = bytes(saved_values(block, row, level));
    // Gradients of a part's values are alive together at most.
    cost.backward_workspace[l] = bytes(recomputed_values(block, row, level) + largest_part);
    cost.backward_workspace[l].base = gradients * rates.value_bytes;
    // The head computes gradients in forward and keeps that of its weight.
    cost.saved[l].base = weight * rates.value_bytes;
  }
  cost.forward_workspace = bytes(std::max(largest_transient, 0.0));
  if (head) {
    cost.forward_workspace.base =
        kChunkRows * vocab_size * kLogitBytes * kLogitCopies + weight * kLogitBytes;
  }
  cost.output = bytes(block.output_values_per_row);
}

// Levels that the block does not have cost as full, or as keep where there is no full.
void fill_levels(const BlockDesc& block, BlockCost& cost) {
  const std::vector<Recompute> levels = recompute_levels(block);
  const auto has = [&](Recompute level) {
    return std::find(levels.begin(), levels.end(), level) != levels.end();
  };
  const auto from =
      static_cast<std::size_t>(has(Recompute::kFull) ? Recompute::kFull : Recompute::kKeep);
  for (std::size_t l = 0; l < kNumRecomputeLevels; ++l) {
    if (has(static_cast<Recompute>(l))) continue;
    cost.recompute[l] = cost.recompute[from];
    cost.saved[l] = cost.saved[from];
    cost.backward_workspace[l] = cost.backward_workspace[from];
  }
}

}  // namespace

ProfileTable analytic_profile(const ModelDesc& model, const Hardware& hardware,
                              const std::string& dtype) {
  ProfileTable table;
  table.origin = "analytic";
  table.hardware = hardware.name;
  table.dtype = dtype;
  table.model_type = model.type;
  table.model_fingerprint = model_fingerprint(model);
  table.memory_bytes = hardware.memory_bytes;
  table.reserved_bytes = hardware.reserved_bytes;
  table.links = hardware.links;
  table.step_overhead = hardware.step_overhead;
  table.notes = hardware.notes;
  std::map<std::string, const BlockDesc*> seen;
  for (const BlockDesc& block : model.blocks) {
    const auto [it, is_new] = seen.emplace(block.cost_class, &block);
    if (!is_new) {
      GIMBAL_CHECK(it->second->flops_per_row() == block.flops_per_row() &&
                       it->second->flops_per_pair() == block.flops_per_pair(),
                   "blocks of class ", block.cost_class, " are not alike");
      continue;
    }
    const Rates rates = rates_of(block, hardware, dtype);
    const auto vocab_size = static_cast<double>(model.vocab_size);
    BlockCost cost = times_of(block, rates, vocab_size);
    add_bytes(block, rates, vocab_size, cost);
    fill_levels(block, cost);
    table.blocks[block.cost_class] = cost;
    table.value_bytes = static_cast<int>(rates.value_bytes);
    table.peak_flops = hardware.peak_flops.at(dtype);
    // The copy that blocks use is written as well where it is not the master itself.
    const double copy = rates.value_bytes < 4 ? rates.value_bytes : 0;
    table.optimizer_per_parameter = (kOptimizerBytes + copy) / rates.memory;
  }
  return table;
}

}  // namespace gimbal
