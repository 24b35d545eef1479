#include "gimbal/profile/pack_shapes.h"

#include <algorithm>
#include <cmath>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"

namespace gimbal {
namespace {

bool has_room(const SampleShape& sample, const PackRoom& room, std::int64_t used_tokens,
              std::int64_t used_vision_rows) {
  return used_tokens + sample.tokens <= room.tokens &&
         (room.vision_rows == 0 || used_vision_rows + sample.vision_rows <= room.vision_rows);
}

/// Samples are drawn again and again until several in a row have no room.
PackShape draw_pack(std::span<const SampleShape> samples, const PackRoom& room,
                    const CounterRng& rng) {
  constexpr int kMostMisses = 20;
  PackShape pack;
  std::int64_t tokens = 0, vision_rows = 0;
  int misses = 0;
  for (std::uint64_t draw = 0; misses < kMostMisses; ++draw) {
    const SampleShape& sample = samples[rng.below(draw, samples.size())];
    if (!has_room(sample, room, tokens, vision_rows)) {
      ++misses;
      continue;
    }
    misses = 0;
    tokens += sample.tokens;
    vision_rows += sample.vision_rows;
    pack.push_back(sample);
  }
  return pack;
}

}  // namespace

WorkSize work_of(const PackShape& pack) {
  WorkSize work;
  for (const SampleShape& sample : pack) {
    const auto tokens = static_cast<double>(sample.tokens);
    work.text_rows += tokens;
    work.text_pairs += tokens * tokens;
    work.loss_rows += static_cast<double>(sample.loss_tokens);
    work.vision_rows += static_cast<double>(sample.vision_rows);
  }
  return work;
}

std::vector<PackShape> choose_packs(std::span<const SampleShape> samples, const PackRoom& room,
                                    std::uint64_t seed) {
  GIMBAL_CHECK(!samples.empty() && room.tokens > 0, "samples and room for packs");
  std::vector<SampleShape> sorted(samples.begin(), samples.end());
  std::ranges::stable_sort(sorted, {}, &SampleShape::tokens);
  const std::span<const SampleShape> all(sorted);
  const std::size_t third = (all.size() + 2) / 3;
  struct Draw {
    std::span<const SampleShape> from;
    double share;  // of the room
  };
  std::vector<Draw> draws;
  for (const double share : {0.125, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0})
    draws.push_back({all, share});
  for (const double share : {0.3, 0.5, 0.7, 0.85, 1.0}) {
    draws.push_back({all.first(third), share});
    draws.push_back({all.last(third), share});
  }
  std::vector<PackShape> packs;
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const auto part = [&](std::int64_t rows) {
      return static_cast<std::int64_t>(std::ceil(draws[i].share * static_cast<double>(rows)));
    };
    PackShape pack =
        draw_pack(draws[i].from, {part(room.tokens), part(room.vision_rows)}, CounterRng(seed, i));
    if (!pack.empty()) packs.push_back(std::move(pack));
  }
  for (std::size_t i = 0; packs.empty() && i < std::min<std::size_t>(5, sorted.size()); ++i) {
    for (std::size_t j = 0; j <= i; ++j) packs.push_back({sorted[j]});
  }
  const auto tokens = [](const PackShape& pack) { return work_of(pack).text_rows; };
  std::ranges::stable_sort(packs, {}, tokens);
  packs.erase(std::unique(packs.begin(), packs.end()), packs.end());
  return packs;
}

std::vector<SampleShape> typical_samples(const ModelDesc& model, const PackRoom& room,
                                         std::uint64_t seed) {
  constexpr std::uint64_t kNumSamples = 96;
  constexpr double kShortestText = 16;
  const CounterRng rng(seed, hash_name("typical samples"));
  const auto tile_tokens = static_cast<std::int64_t>(model.tokens_per_vision_row);
  double longest = std::max(kShortestText, static_cast<double>(room.tokens) / 2);
  if (model.max_positions > 0)
    longest = std::min(longest, static_cast<double>(model.max_positions) / 2);
  std::vector<SampleShape> samples;
  for (std::uint64_t i = 0; i < kNumSamples; ++i) {
    // Even in the logarithm of the length.
    const double text =
        kShortestText * std::pow(std::max(1.0, longest / kShortestText), rng.uniform(2 * i));
    SampleShape sample;
    sample.tokens = static_cast<std::int64_t>(text);
    sample.loss_tokens = std::max<std::int64_t>(1, sample.tokens / 4);
    if (tile_tokens > 0) {
      sample.vision_rows = static_cast<std::int64_t>(rng.below(2 * i + 1, 5));
      while (sample.vision_rows > 1 &&
             sample.tokens + sample.vision_rows * tile_tokens > room.tokens)
        --sample.vision_rows;
      if (room.vision_rows > 0) sample.vision_rows = std::min(sample.vision_rows, room.vision_rows);
      sample.tokens += sample.vision_rows * tile_tokens;
    }
    samples.push_back(sample);
  }
  return samples;
}

}  // namespace gimbal
