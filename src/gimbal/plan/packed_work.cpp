#include "gimbal/plan/packed_work.h"

#include <algorithm>
#include <span>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// What a mini-batch whose samples are padded to the longest brings.
WorkSize padded_work(const SampleTable& samples, std::span<const std::uint32_t> pack,
                     const ModelDesc& model) {
  WorkSize work;
  double longest = 0;
  for (const std::uint32_t sample : pack) {
    work = work + sample_work(samples, sample, model);
    longest = std::max<double>(longest, samples.text_rows[sample]);
  }
  work.text_rows = longest * static_cast<double>(pack.size());
  work.text_pairs = longest * work.text_rows;
  return work;
}

/// What goes with text rows: as much of it as the richest samples would bring to that many rows.
void raise_with_text(const SampleTable& samples, const ModelDesc& model, WorkSize& largest) {
  double loss_share = 0, longest = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const WorkSize work = sample_work(samples, i, model);
    if (work.text_rows <= 0) continue;
    loss_share = std::max(loss_share, std::min(1.0, work.loss_rows / work.text_rows));
    longest = std::max(longest, work.text_rows);
  }
  largest.loss_rows = std::max(largest.loss_rows, loss_share * largest.text_rows);
  largest.text_pairs = std::max(largest.text_pairs, longest * largest.text_rows);
}

}  // namespace

void raise_to(WorkSize& largest, const WorkSize& work) {
  largest.text_rows = std::max(largest.text_rows, work.text_rows);
  largest.text_pairs = std::max(largest.text_pairs, work.text_pairs);
  largest.loss_rows = std::max(largest.loss_rows, work.loss_rows);
  largest.vision_rows = std::max(largest.vision_rows, work.vision_rows);
  largest.vision_pairs = std::max(largest.vision_pairs, work.vision_pairs);
}

WorkSize sample_work(const SampleTable& samples, std::size_t sample, const ModelDesc& model) {
  WorkSize work;
  work.text_rows = samples.text_rows[sample];
  work.text_pairs = work.text_rows * work.text_rows;
  if (!samples.vision_rows.empty()) work.vision_rows = samples.vision_rows[sample];
  if (!samples.vision_pairs.empty()) {
    work.vision_pairs = samples.vision_pairs[sample];
  } else if (model.vision_row == "patch") {
    work.vision_pairs = work.vision_rows * work.vision_rows;
  }
  work.loss_rows =
      samples.loss_rows.empty()
          ? std::max(1.0, work.text_rows - work.vision_rows * model.tokens_per_vision_row)
          : samples.loss_rows[sample];
  return work;
}

PackedWork pack_work(const SampleTable& samples, const ModelDesc& model,
                     const std::vector<StreamCost>& costs, const PackChoice& choice) {
  GIMBAL_USER_CHECK(samples.size() > 0, samples.origin,
                    ": there are no samples to plan for; give a data set or lengths with samples");
  const bool has_vision = !samples.vision_rows.empty();
  std::vector<std::uint32_t> rows;
  std::vector<std::uint64_t> pairs;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    rows.push_back(samples.text_rows[i]);
    if (has_vision) rows.push_back(samples.vision_rows[i]);
    if (samples.vision_pairs.empty()) continue;
    pairs.push_back(std::uint64_t{samples.text_rows[i]} * samples.text_rows[i]);
    if (has_vision) pairs.push_back(static_cast<std::uint64_t>(samples.vision_pairs[i]));
  }
  const std::vector<std::string> names = {"text", "vision"};
  SampleSizes sizes{rows, has_vision ? 2 : 1, pairs, {names.data(), has_vision ? 2U : 1U}};

  SamplerOptions options;
  options.method = choice.method;
  options.caps = choice.caps;
  options.caps.rows.resize(has_vision ? 2 : 1);
  options.costs = costs;
  options.costs.resize(has_vision ? 2 : 1);
  options.samples_per_group = choice.samples;
  options.packs_per_step = choice.packs_per_step;
  options.packs_per_slot = choice.packs_per_slot;
  options.seed = choice.seed;
  options.patterns = choice.patterns;
  options.pattern_options = choice.pattern_options;
  options.describe = samples.describe;
  Sampler sampler(sizes, options);
  const Packs& packs = sampler.epoch(0).packs();

  PackedWork packed;
  packed.caps = choice.caps;
  if (choice.method == PackMethod::kGimbal) packed.patterns = sampler.patterns();
  for (std::size_t p = 0; p < packs.size(); ++p) {
    WorkSize work;
    if (is_padded(choice.method)) {
      work = padded_work(samples, packs[p], model);
    } else {
      for (const std::uint32_t sample : packs[p]) {
        work = work + sample_work(samples, sample, model);
      }
    }
    packed.mean = packed.mean + work;
    raise_to(packed.largest, work);
    packed.packs.push_back(work);
    packed.samples.emplace_back(packs[p].begin(), packs[p].end());
  }
  // Other epochs are packed anew: their packs may be as full as the caps allow.
  if (!is_padded(choice.method)) {
    const auto up_to_cap = [&](double& largest, int stream, double all) {
      if (choice.caps.of(stream) == 0) return;
      largest = std::max(largest, std::min(all, static_cast<double>(choice.caps.of(stream))));
    };
    up_to_cap(packed.largest.text_rows, 0, packed.mean.text_rows);
    up_to_cap(packed.largest.vision_rows, 1, packed.mean.vision_rows);
    raise_with_text(samples, model, packed.largest);
  }
  const auto count = static_cast<double>(packs.size());
  packed.mean = (1 / count) * packed.mean;
  packed.samples_per_pack = static_cast<double>(samples.size()) / count;
  return packed;
}

std::vector<StreamCost> stream_costs(const ModelDesc& model) {
  StreamCost text{0, 0}, vision{0, 0};
  for (const BlockDesc& block : model.blocks) {
    switch (block.kind) {
      case BlockKind::kVisionEmbed:
      case BlockKind::kVisionLayer:
      case BlockKind::kProjector:
        vision.per_row += block.flops_per_row();
        vision.per_pair += block.flops_per_pair();
        break;
      case BlockKind::kTextEmbed:
      case BlockKind::kTextLayer:
      case BlockKind::kTextNorm:
        text.per_row += block.flops_per_row();
        text.per_pair += block.flops_per_pair();
        break;
      case BlockKind::kTextHead:
        break;  // its rows are the loss tokens, a small part of the text rows that is alike in all
                // packs
    }
  }
  return {text, vision};
}

}  // namespace gimbal
