#include "gimbal/balance/arrange/mix_sources.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

namespace gimbal {
namespace {

constexpr std::size_t kMostClasses = 16;
constexpr int kTries = 4;              // partners that a sample is offered
constexpr std::int64_t kSample = 256;  // one sample, in the units in which surplus is counted
// Samples come in a random order: their rows are fetched this many samples ahead.
constexpr std::size_t kFetchAhead = 16;
constexpr std::size_t kMeanBucket = 16;  // samples

// Exchanges between full slots.
class SlotMixer {
 public:
  SlotMixer(Packs& packs, const SampleSizes& sizes, const SourceClasses& classes,
            std::uint64_t packs_per_slot, std::size_t slots)
      : packs_(packs),
        sizes_(sizes),
        classes_(classes),
        streams_(static_cast<std::size_t>(sizes.num_streams)),
        surplus_(slots * classes.count()) {
    sort_into_buckets(packs_per_slot, slots);
    for (std::size_t slot = 0; slot < slots; ++slot) {
      const double samples = static_cast<double>(packs.offsets[(slot + 1) * packs_per_slot] -
                                                 packs.offsets[slot * packs_per_slot]);
      for (std::size_t c = 0; c < classes.count(); ++c) {
        surplus_[slot * classes.count() + c] -=
            static_cast<std::int64_t>(static_cast<double>(kSample) * samples * classes.share(c));
      }
    }
  }

  void run(const CounterRng& rng) {
    std::uint64_t draw = 0;
    for (std::size_t b = 0; b + 1 < bucket_begin_.size(); ++b) {
      const std::span bucket =
          std::span(entries_).subspan(bucket_begin_[b], bucket_begin_[b + 1] - bucket_begin_[b]);
      if (bucket.size() < 2) continue;
      for (Entry& entry : bucket) {
        if (surplus(entry, entry.source_class) <= 0) continue;
        for (int t = 0; t < kTries; ++t) {
          if (exchange(entry, bucket[rng.below(draw++, bucket.size())])) break;
        }
      }
    }
  }

 private:
  struct Entry {
    std::uint32_t place;  // in packs.samples
    std::uint32_t slot;
    std::uint32_t source_class;
  };

  // Entries of equal size are in the same bucket. Counts the slots' samples.
  void sort_into_buckets(std::uint64_t packs_per_slot, std::size_t slots) {
    const std::uint64_t places = packs_.offsets[slots * packs_per_slot];
    const std::uint64_t buckets = std::bit_ceil(places / kMeanBucket + 1);
    bucket_begin_.assign(buckets + 1, 0);
    std::vector<std::uint32_t> bucket_of(places);
    for (std::uint64_t place = 0; place < places; ++place) {
      if (place + kFetchAhead < places)
        __builtin_prefetch(sizes_.rows.data() + packs_.samples[place + kFetchAhead] * streams_);
      std::uint64_t hash = 0;
      for (const std::uint32_t n : sizes_.rows.subspan(packs_.samples[place] * streams_, streams_))
        hash = mix_bits(hash ^ n);
      bucket_of[place] = static_cast<std::uint32_t>(hash & (buckets - 1));
      ++bucket_begin_[bucket_of[place] + 1];
    }
    std::inclusive_scan(bucket_begin_.begin(), bucket_begin_.end(), bucket_begin_.begin());
    entries_.resize(places);
    std::vector<std::uint32_t> next(bucket_begin_.begin(), bucket_begin_.end() - 1);
    for (std::size_t slot = 0; slot < slots; ++slot) {
      const std::uint64_t end = packs_.offsets[(slot + 1) * packs_per_slot];
      for (std::uint64_t p = packs_.offsets[slot * packs_per_slot]; p < end; ++p) {
        const Entry entry{static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(slot),
                          static_cast<std::uint32_t>(classes_.of(packs_.samples[p]))};
        entries_[next[bucket_of[p]]++] = entry;
        surplus(entry, entry.source_class) += kSample;
      }
    }
  }

  // Samples of the class that the entry's slot has above its share.
  std::int64_t& surplus(const Entry& entry, std::uint32_t source_class) {
    return surplus_[entry.slot * classes_.count() + source_class];
  }

  bool exchange(Entry& x, Entry& y) {
    const std::uint32_t a = x.source_class, b = y.source_class;
    if (a == b || x.slot == y.slot) return false;
    // The sum of squared surpluses must fall.
    if (surplus(x, a) - surplus(x, b) + surplus(y, b) - surplus(y, a) <= 2 * kSample) return false;
    if (!equal_sizes(packs_.samples[x.place], packs_.samples[y.place])) return false;
    std::swap(packs_.samples[x.place], packs_.samples[y.place]);
    std::swap(x.source_class, y.source_class);
    surplus(x, a) -= kSample;
    surplus(x, b) += kSample;
    surplus(y, b) -= kSample;
    surplus(y, a) += kSample;
    return true;
  }

  bool equal_sizes(std::uint32_t x, std::uint32_t y) const {
    const auto equal = [&](auto values) {
      return std::ranges::equal(values.subspan(x * streams_, streams_),
                                values.subspan(y * streams_, streams_));
    };
    return equal(sizes_.rows) && (sizes_.pairs.empty() || equal(sizes_.pairs));
  }

  Packs& packs_;
  const SampleSizes& sizes_;
  const SourceClasses& classes_;
  std::size_t streams_;
  std::vector<std::int64_t> surplus_;  // [slots * classes]
  std::vector<std::uint32_t> bucket_begin_;
  std::vector<Entry> entries_;
};

}  // namespace

SourceClasses::SourceClasses(const Packs& packs, std::span<const std::uint32_t> sources)
    : sources_(sources) {
  std::vector<std::uint64_t> samples(
      sources.empty() ? 1 : *std::max_element(sources.begin(), sources.end()) + std::size_t{1});
  for (const std::uint32_t sample : packs.samples) ++samples[sources.empty() ? 0 : sources[sample]];
  std::vector<std::size_t> largest(samples.size());
  std::iota(largest.begin(), largest.end(), std::size_t{0});
  std::stable_sort(largest.begin(), largest.end(),
                   [&](std::size_t a, std::size_t b) { return samples[a] > samples[b]; });
  class_of_source_.resize(samples.size());
  shares_.assign(std::min(samples.size(), kMostClasses), 0.0);
  const double all = static_cast<double>(std::max<std::size_t>(packs.samples.size(), 1));
  for (std::size_t i = 0; i < largest.size(); ++i) {
    const std::size_t source_class = std::min(i, shares_.size() - 1);
    class_of_source_[largest[i]] = static_cast<std::uint8_t>(source_class);
    shares_[source_class] += static_cast<double>(samples[largest[i]]) / all;
  }
}

void mix_sources(Packs& packs, const SampleSizes& sizes, const SourceClasses& classes,
                 std::uint64_t packs_per_slot, const CounterRng& rng) {
  const std::size_t slots = packs.size() / packs_per_slot;
  if (classes.count() < 2 || slots < 2) return;
  SlotMixer(packs, sizes, classes, packs_per_slot, slots).run(rng);
}

}  // namespace gimbal
