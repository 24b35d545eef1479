#include "gimbal/profile/pack_shapes.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

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

constexpr std::int64_t kShortestText = 16;  // of typical samples

/// Those that have room, at most kMost of them, in order of tokens.
std::vector<SampleShape> fitting_samples(std::span<const SampleShape> samples,
                                         const PackRoom& room) {
  constexpr std::size_t kMost = 4096;
  std::vector<SampleShape> fitting;
  for (const SampleShape& sample : samples) {
    if (has_room(sample, room, 0, 0)) fitting.push_back(sample);
  }
  if (fitting.empty()) {
    const auto size = [](const SampleShape& sample) {
      return std::pair(sample.tokens, sample.vision_rows);
    };
    const auto least = std::ranges::min_element(samples, {}, size);
    const std::string tiles = room.vision_rows > 0
                                  ? concat(" and ", room.vision_rows, " tiles (balance.vision_cap)")
                                  : "";
    throw UserError(concat(
        "none of the ", samples.size(), " samples fits into a pack of ", room.tokens,
        " tokens (balance.text_cap)", tiles, ". The shortest, sample ", least - samples.begin(),
        ", has ", least->tokens, " tokens and ", least->vision_rows, " tiles: raise the caps"));
  }
  std::vector<SampleShape> chosen;
  const std::size_t step = (fitting.size() + kMost - 1) / kMost;
  for (std::size_t i = 0; i < fitting.size(); i += step) chosen.push_back(fitting[i]);
  std::ranges::stable_sort(chosen, {}, &SampleShape::tokens);
  return chosen;
}

bool same_work(const PackShape& a, const PackShape& b) {
  const WorkSize x = work_of(a), y = work_of(b);
  return x.text_rows == y.text_rows && x.text_pairs == y.text_pairs && x.loss_rows == y.loss_rows &&
         x.vision_rows == y.vision_rows;
}

/// Adds the pack unless there is one of the same work.
void add_pack(std::vector<PackShape>& packs, PackShape pack) {
  if (pack.empty()) return;
  const bool is_new =
      std::ranges::none_of(packs, [&](const PackShape& other) { return same_work(pack, other); });
  if (is_new) packs.push_back(std::move(pack));
}

/// Single samples and repeats of the shortest, while there are too few packs.
void add_single_samples(std::span<const SampleShape> sorted, const PackRoom& room,
                        std::vector<PackShape>& packs) {
  constexpr std::size_t kFew = 8;
  const std::size_t last = sorted.size() - 1;
  for (std::size_t i = 0; packs.size() < kFew && i < kFew; ++i)
    add_pack(packs, {sorted[i * last / (kFew - 1)]});
  for (std::size_t i = 0; packs.size() < kFew && i <= last; ++i) add_pack(packs, {sorted[i]});
  const SampleShape& shortest = sorted.front();
  PackShape repeats{shortest};
  std::int64_t tokens = shortest.tokens, tiles = shortest.vision_rows;
  for (; packs.size() < kFew && has_room(shortest, room, tokens, tiles);
       tokens += shortest.tokens, tiles += shortest.vision_rows) {
    repeats.push_back(shortest);
    add_pack(packs, repeats);
  }
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

std::vector<std::string> too_few_sizes(const ModelDesc& model, std::span<const WorkSize> packs) {
  std::vector<std::string> texts;
  std::set<std::string> seen;
  for (const BlockDesc& block : model.blocks) {
    if (!seen.insert(block.cost_class).second) continue;
    std::set<std::pair<double, double>> sizes;
    bool attends = false;
    for (const WorkSize& work : packs) {
      if (work_rows(block, work) <= 0) continue;
      sizes.emplace(work_rows(block, work), work_pairs(block, work));
      attends = attends || work_pairs(block, work) > 0;
    }
    const std::size_t coefficients = attends ? 3 : 2;
    if (sizes.size() >= coefficients) continue;
    texts.push_back(concat("costs of ", block.cost_class, " blocks rest on ", sizes.size(),
                           sizes.size() == 1 ? " size" : " sizes", " of pack where ", coefficients,
                           " are needed to tell their parts apart: they hold for packs of such "
                           "sizes only. Raise balance.text_cap and balance.vision_cap, or use data "
                           "with samples of unlike length"));
  }
  return texts;
}

std::vector<PackShape> choose_packs(std::span<const SampleShape> samples, const PackRoom& room,
                                    std::uint64_t seed) {
  GIMBAL_CHECK(!samples.empty() && room.tokens > 0, "samples and room for packs");
  const std::vector<SampleShape> sorted = fitting_samples(samples, room);
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
    add_pack(packs, draw_pack(draws[i].from, {part(room.tokens), part(room.vision_rows)},
                              CounterRng(seed, i)));
  }
  add_single_samples(all, room, packs);
  const auto tokens = [](const PackShape& pack) { return work_of(pack).text_rows; };
  std::ranges::stable_sort(packs, {}, tokens);
  return packs;
}

std::vector<SampleShape> typical_samples(const ModelDesc& model, const PackRoom& room,
                                         std::uint64_t seed) {
  constexpr std::uint64_t kNumSamples = 96;
  const CounterRng rng(seed, hash_name("typical samples"));
  const auto tile_tokens = static_cast<std::int64_t>(model.tokens_per_vision_row);
  constexpr auto kShortest = static_cast<double>(kShortestText);
  GIMBAL_USER_CHECK(room.tokens >= kShortestText, "balance.text_cap is ", room.tokens,
                    ", and typical samples have ", kShortestText,
                    " tokens and more: raise it, or give data.train");
  double longest = std::max(kShortest, static_cast<double>(room.tokens) / 2);
  if (model.max_positions > 0)
    longest = std::min(longest, static_cast<double>(model.max_positions) / 2);
  std::vector<SampleShape> samples;
  for (std::uint64_t i = 0; i < kNumSamples; ++i) {
    // Even in the logarithm of the length.
    const double text =
        kShortest * std::pow(std::max(1.0, longest / kShortest), rng.uniform(2 * i));
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
