// Packs as work: what a micro-batch of the planned run brings.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/balance/sampler.h"
#include "gimbal/balance/sizes.h"

namespace gimbal {

/// The samples that a plan is made for. Streams: text rows, and vision rows where there are any.
struct SampleTable {
  std::vector<std::uint32_t> text_rows;    // [N]
  std::vector<std::uint32_t> vision_rows;  // [N], or empty: no vision
  std::vector<double> vision_pairs;        // [N], or empty: 0 for tiles, rows^2 for patches
  std::vector<double> loss_rows;           // [N], or empty: text rows less visual tokens
  std::string origin;                      // for messages: file or dataset
  std::function<std::string(std::uint32_t)> describe;  // names a sample; empty: "sample 12"
  std::size_t size() const { return text_rows.size(); }
};

/// Raises each size of `largest` to that of `work`.
void raise_to(WorkSize& largest, const WorkSize& work);

WorkSize sample_work(const SampleTable& samples, std::size_t sample, const ModelDesc& model);

/// Micro-batches of one epoch in the order they are run.
struct PackedWork {
  PackCaps caps;
  std::vector<WorkSize> packs;
  std::vector<std::vector<std::uint32_t>> samples;  // of each pack; empty for a quick estimate
  double samples_per_pack = 0;
  std::shared_ptr<const PatternSet> patterns;  // that packed them; null without
  WorkSize mean;
  WorkSize largest;  // per component; up to the caps, as other epochs may have
};

struct PackChoice {
  PackMethod method = PackMethod::kGimbal;
  PackCaps caps;              // text, vision
  std::uint64_t samples = 0;  // kRandom: samples of a micro-batch, padded to the longest
  std::uint64_t packs_per_step = 1;
  std::uint64_t packs_per_slot = 0;
  std::uint64_t seed = 0;
  std::shared_ptr<const PatternSet> patterns;  // kGimbal: solved before; null: solve them
  PatternOptions pattern_options;              // how; fewer rounds are faster, with more packs
};

/// Packs all samples. Throws UserError for a sample above a cap (says which).
PackedWork pack_work(const SampleTable& samples, const ModelDesc& model,
                     const std::vector<StreamCost>& costs, const PackChoice& choice);

/// Forward FLOPs of a row and a pair of the streams text and vision.
std::vector<StreamCost> stream_costs(const ModelDesc& model);

}  // namespace gimbal
