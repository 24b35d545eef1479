#include "gimbal/plan/search/cap_candidates.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"
#include "gimbal/plan/search/evaluator.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kSmallestCap = 128;
constexpr std::uint64_t kDefaultCap = 4096;
constexpr std::uint64_t kLargestCap = 1U << 20;
constexpr std::uint64_t kEstimateSamples = 3000;
/// Training solves patterns for longer; its packs are then up to 1 % fewer.
constexpr int kPatternRounds = 30;

struct RowStatistics {
  double mean = 0;
  std::uint64_t largest = 0;
  std::uint32_t largest_sample = 0;
};

RowStatistics statistics_of(const std::vector<std::uint32_t>& rows) {
  RowStatistics result;
  if (rows.empty()) return result;
  const auto largest = std::max_element(rows.begin(), rows.end());
  result.largest = *largest;
  result.largest_sample = static_cast<std::uint32_t>(largest - rows.begin());
  result.mean = std::accumulate(rows.begin(), rows.end(), 0.0) / static_cast<double>(rows.size());
  return result;
}

void check_cap(const PlanInput& input, const char* stream, std::uint64_t cap,
               const RowStatistics& rows) {
  if (cap == 0 || cap >= rows.largest) return;
  const std::string sample =
      input.samples.describe ? input.samples.describe(rows.largest_sample)
                             : concat("sample ", rows.largest_sample, " of ", input.samples.origin);
  throw UserError(concat("the ", stream, " cap of ", cap, " is below the largest sample: ", sample,
                         " has ", rows.largest, " ", stream,
                         " rows. Raise the cap to at least that, or leave such samples out."));
}

}  // namespace

std::vector<PackCaps> cap_candidates(const PlanInput& input) {
  GIMBAL_USER_CHECK(input.samples.size() > 0, input.samples.origin,
                    ": there are no samples to plan for; give a data set or lengths with samples");
  const RowStatistics text = statistics_of(input.samples.text_rows);
  const RowStatistics vision = statistics_of(input.samples.vision_rows);
  if (input.caps) {
    PackCaps caps;
    caps.rows = *input.caps;
    caps.rows.resize(2);
    GIMBAL_USER_CHECK(caps.rows[0] > 0 || caps.rows[1] > 0,
                      "a plan needs a cap on text or vision rows; both are 0");
    check_cap(input, "text", caps.rows[0], text);
    check_cap(input, "vision", caps.rows[1], vision);
    if (input.samples.vision_rows.empty()) {
      GIMBAL_USER_CHECK(caps.rows[0] > 0, "a plan for text needs a text cap above 0");
      caps.rows[1] = 0;
    }
    return {caps};
  }
  std::vector<std::uint64_t> text_caps;
  if (input.without.contains("caps")) {
    text_caps = {std::max(kDefaultCap, text.largest)};
  } else {
    const double most =
        std::max(static_cast<double>(kDefaultCap), text.mean * input.samples_per_step / 4);
    for (std::uint64_t cap = kSmallestCap; cap <= kLargestCap; cap *= 2) {
      if (cap >= text.largest && static_cast<double>(cap) <= most) text_caps.push_back(cap);
    }
    if (text_caps.empty()) text_caps = {text.largest};
  }
  std::vector<PackCaps> candidates;
  for (const std::uint64_t cap : text_caps) {
    PackCaps caps;
    caps.rows = {cap, 0};
    if (vision.largest > 0) {
      const double samples = static_cast<double>(cap) / text.mean;
      caps.rows[1] =
          std::max(vision.largest, static_cast<std::uint64_t>(std::llround(samples * vision.mean)));
    }
    candidates.push_back(caps);
  }
  return candidates;
}

std::vector<PackCaps> nearby_caps(const PlanInput& input, const PackCaps& caps) {
  const std::uint64_t least_text = statistics_of(input.samples.text_rows).largest;
  const std::uint64_t least_vision = statistics_of(input.samples.vision_rows).largest;
  const auto scaled = [](std::uint64_t cap, double factor, std::uint64_t least) {
    const auto rows = static_cast<std::uint64_t>(std::llround(static_cast<double>(cap) * factor));
    return cap == 0 ? cap : std::max(rows, least);
  };
  std::vector<PackCaps> near;
  const auto add = [&](double text, double vision) {
    PackCaps changed;
    changed.rows = {scaled(caps.rows[0], text, least_text),
                    scaled(caps.rows[1], vision, least_vision)};
    if (changed.rows != caps.rows) near.push_back(changed);
  };
  add(1.25, 1.25);
  add(0.8, 0.8);
  if (caps.rows[1] == 0) return near;
  add(1, 0.875);
  add(1.125, 1);
  return near;
}

PackedWork estimate_packs(const PlanInput& input, const PackCaps& caps) {
  SampleTable few;
  few.origin = input.samples.origin;
  const std::vector<std::uint64_t> chosen = spread(input.samples.size(), kEstimateSamples);
  for (const std::uint64_t i : chosen) {
    few.text_rows.push_back(input.samples.text_rows[i]);
    if (!input.samples.vision_rows.empty()) few.vision_rows.push_back(input.samples.vision_rows[i]);
    if (!input.samples.vision_pairs.empty())
      few.vision_pairs.push_back(input.samples.vision_pairs[i]);
    if (!input.samples.loss_rows.empty()) few.loss_rows.push_back(input.samples.loss_rows[i]);
  }
  PackChoice choice;
  choice.method = PackMethod::kBestFitDecreasing;
  choice.caps = caps;
  choice.packs_per_step = 8;
  choice.seed = input.seed;
  return pack_work(few, input.model, stream_costs(input.model), choice);
}

namespace {

/// What packs depend on, besides caps and packs per step.
std::uint64_t fingerprint_of(const PlanInput& input) {
  std::uint64_t hash = mix_bits(input.seed ^ input.samples.size());
  const auto add = [&](double value) { hash = mix_bits(hash ^ static_cast<std::uint64_t>(value)); };
  for (const std::uint32_t rows : input.samples.text_rows) add(rows);
  for (const std::uint32_t rows : input.samples.vision_rows) add(rows);
  for (const double pairs : input.samples.vision_pairs) add(pairs);
  for (const double rows : input.samples.loss_rows) add(rows);
  for (const StreamCost& cost : stream_costs(input.model)) add(cost.per_row), add(cost.per_pair);
  return hash;
}

}  // namespace

/// Packs by fingerprint, caps and packs per step.
class PackMemo {
 public:
  struct Entry {
    std::uint64_t fingerprint;
    std::vector<std::uint64_t> caps;
    std::uint64_t packs_per_step;
    std::shared_ptr<const PackedWork> packed;
  };
  std::vector<Entry> entries;
};

std::shared_ptr<PackMemo> make_pack_memo() { return std::make_shared<PackMemo>(); }

std::shared_ptr<const PackedWork> pack_all(const PlanInput& input, const PackCaps& caps,
                                           std::uint64_t packs_per_step) {
  PackChoice choice;
  choice.caps = caps;
  choice.packs_per_step = packs_per_step;
  choice.seed = input.seed;
  choice.pattern_options.max_rounds = kPatternRounds;
  choice.pattern_options.compare = false;
  const std::uint64_t fingerprint = input.memo ? fingerprint_of(input) : 0;
  if (input.memo) {
    for (const PackMemo::Entry& entry : input.memo->entries) {
      if (entry.fingerprint != fingerprint || entry.caps != caps.rows) continue;
      if (entry.packs_per_step == packs_per_step) return entry.packed;
      choice.patterns = entry.packed->patterns;
    }
  }
  auto packed = std::make_shared<const PackedWork>(
      pack_work(input.samples, input.model, stream_costs(input.model), choice));
  if (input.memo) {
    input.memo->entries.push_back({fingerprint, caps.rows, packs_per_step, packed});
  }
  return packed;
}

}  // namespace gimbal
