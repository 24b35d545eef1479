// Streams of samples for the tests of the stream packer.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gimbal/balance/stream/stream_packer.h"
#include "gimbal/base/rng.h"
#include "unit/balance/check_cases.h"

namespace gimbal::testing {

/// Options and samples; sample i has the id 1000 + i.
struct StreamCase {
  StreamPackerOptions options;
  std::vector<std::uint32_t> rows;  // [samples * streams]

  std::size_t num_samples() const { return rows.size() / num_streams(); }
  std::size_t num_streams() const { return static_cast<std::size_t>(options.num_streams); }
  static std::uint64_t id(std::size_t sample) { return 1000 + sample; }
  std::span<const std::uint32_t> sample(std::size_t i) const {
    return std::span(rows).subspan(i * num_streams(), num_streams());
  }
};

inline void take_slots(StreamPacker& packer, std::vector<StreamSlot>& slots) {
  while (auto slot = packer.next_slot()) slots.push_back(std::move(*slot));
}

/// Pushes samples from `first` on and takes each slot as soon as it is there.
inline std::vector<StreamSlot> run_stream(StreamPacker& packer, const StreamCase& stream,
                                          std::size_t first = 0) {
  std::vector<StreamSlot> slots;
  for (std::size_t i = first; i < stream.num_samples(); ++i) {
    packer.push(StreamCase::id(i), stream.sample(i));
    take_slots(packer, slots);
  }
  packer.finish();
  take_slots(packer, slots);
  return slots;
}

/// K = 1 to 8 streams, of which the first at least has a cap; up to `most_samples` samples of any
/// size up to the caps, or (rarely) above them; at times all equal or with empty streams.
inline StreamCase any_stream(std::size_t most_samples) {
  StreamCase stream;
  StreamPackerOptions& options = stream.options;
  options.num_streams = *between(1, 9);
  const std::size_t streams = stream.num_streams();
  const auto most = *rc::gen::element<std::uint32_t>(1, 6, 100, 5000, 4294967295U);
  for (std::size_t k = 0; k < streams; ++k) {
    const bool capped = k == 0 || *between(0, 2) == 0;
    options.caps.rows.push_back(capped ? *between<std::uint64_t>(most, std::uint64_t{4} * most + 1)
                                       : 0);
    options.costs.push_back({1.0 + static_cast<double>(k), k % 2 == 0 ? 0.0 : 1e-5});
  }
  options.caps.samples = *rc::gen::element<std::uint64_t>(0, 0, 1, 3);
  options.packs_per_slot = *between<std::uint64_t>(1, 7);
  options.window = *rc::gen::element<std::uint64_t>(1, 2, 5, 16, 40);
  options.oversize = OversizePolicy::kAlone;
  options.seed = *rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint64_t>());
  const auto count = *between<std::size_t>(0, most_samples + 1);
  const int kind = *between(0, 5);  // 0: all equal; 1: empty streams; 2: some too large
  const CounterRng rng(options.seed + 1);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t k = 0; k < streams; ++k) {
      auto rows = static_cast<std::uint32_t>(
          rng.below(kind == 0 ? k : i * streams + k, std::uint64_t{most} + 1));
      if (kind == 1 && k % 2 == 0) rows = 0;
      if (kind == 2 && i % 5 == 0 && most < 10000) rows *= 5;
      stream.rows.push_back(rows);
    }
  }
  return stream;
}

}  // namespace gimbal::testing
