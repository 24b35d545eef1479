// Properties of every stream, whatever the sizes and the window.
#include <gtest/gtest.h>

#include "unit/balance/stream_cases.h"

namespace gimbal {
namespace {

using namespace testing;

void check_caps_kept(const StreamCase& stream, const std::vector<StreamSlot>& slots) {
  const PackLimits limits({stream.rows, stream.options.num_streams}, stream.options.caps,
                          stream.options.costs);
  for (const StreamSlot& slot : slots) {
    for (const auto& pack : slot) {
      RC_ASSERT(!pack.empty());
      if (pack.size() == 1) continue;  // alone, whatever its size
      for (int l = 0; l < limits.count(); ++l) {
        std::uint64_t sum = 0;
        for (const std::uint64_t id : pack) {
          sum += limits.demand(static_cast<std::uint32_t>(id - StreamCase::id(0)), l);
        }
        RC_ASSERT(sum <= limits.cap(l));
      }
    }
  }
}

void check_each_once(const StreamCase& stream, const std::vector<StreamSlot>& slots) {
  std::vector<std::uint64_t> ids;
  for (const StreamSlot& slot : slots) {
    for (const auto& pack : slot) ids.insert(ids.end(), pack.begin(), pack.end());
  }
  RC_ASSERT(ids.size() == stream.num_samples());
  std::sort(ids.begin(), ids.end());
  for (std::size_t i = 0; i < ids.size(); ++i) RC_ASSERT(ids[i] == StreamCase::id(i));
}

// How many later samples left in earlier slots, at most.
std::uint64_t most_overtaken(const std::vector<StreamSlot>& slots) {
  std::vector<std::uint64_t> before;
  std::uint64_t most = 0;
  for (const StreamSlot& slot : slots) {
    for (const auto& pack : slot) {
      for (const std::uint64_t id : pack) {
        const auto later = std::count_if(before.begin(), before.end(),
                                         [id](std::uint64_t other) { return other > id; });
        most = std::max(most, static_cast<std::uint64_t>(later));
      }
    }
    for (const auto& pack : slot) before.insert(before.end(), pack.begin(), pack.end());
  }
  return most;
}

TEST(StreamPackerProperty, GivesEachSampleOnceWithinCapsAndInTime) {
  check_cases(10000, [] {
    const StreamCase stream = any_stream(120);
    StreamPacker packer(stream.options);
    const std::vector<StreamSlot> slots = run_stream(packer, stream);
    check_each_once(stream, slots);
    check_caps_kept(stream, slots);
    for (std::size_t s = 0; s < slots.size(); ++s) {
      RC_ASSERT(!slots[s].empty());
      const bool whole = slots[s].size() == stream.options.packs_per_slot;
      RC_ASSERT(whole ||
                (s + 1 == slots.size() && slots[s].size() < stream.options.packs_per_slot));
    }
    RC_ASSERT(most_overtaken(slots) <=
              std::max(stream.options.window, stream.options.packs_per_slot));
    RC_ASSERT(packer.samples_in() == stream.num_samples());
    RC_ASSERT(packer.samples_out() == stream.num_samples());
    RC_ASSERT(packer.samples_held() == 0U);
  });
}

TEST(StreamPackerProperty, HoldsAtMostAWindow) {
  check_cases(2000, [] {
    const StreamCase stream = any_stream(120);
    StreamPacker packer(stream.options);
    std::vector<StreamSlot> slots;
    for (std::size_t i = 0; i < stream.num_samples(); ++i) {
      packer.push(StreamCase::id(i), stream.sample(i));
      RC_ASSERT(packer.samples_held() <=
                std::max(stream.options.window, stream.options.packs_per_slot));
      take_slots(packer, slots);
    }
  });
}

TEST(StreamPackerProperty, GivesTheSameSlotsWheneverTheyAreTaken) {
  check_cases(2000, [] {
    const StreamCase stream = any_stream(120);
    StreamPacker prompt(stream.options), late(stream.options);
    const std::vector<StreamSlot> expected = run_stream(prompt, stream);
    std::vector<StreamSlot> slots;
    const CounterRng rng(stream.options.seed);
    for (std::size_t i = 0; i < stream.num_samples(); ++i) {
      late.push(StreamCase::id(i), stream.sample(i));
      if (rng.below(i, 20) == 0) take_slots(late, slots);
    }
    late.finish();
    take_slots(late, slots);
    RC_ASSERT(slots == expected);
  });
}

// Saves after a random number of pushes and slots, goes on in a new packer.
TEST(StreamPackerProperty, EqualsItselfAfterRestoreAtAnyPoint) {
  check_cases(10000, [] {
    const StreamCase stream = any_stream(80);
    StreamPacker whole(stream.options);
    const std::vector<StreamSlot> expected = run_stream(whole, stream);
    StreamPacker first(stream.options);
    std::vector<StreamSlot> slots;
    const auto pushed = *between<std::size_t>(0, stream.num_samples() + 1);
    for (std::size_t i = 0; i < pushed; ++i) {
      first.push(StreamCase::id(i), stream.sample(i));
      // Not all are taken: some are planned when the state is saved.
      if (i % 3 == 0) {
        if (auto slot = first.next_slot()) slots.push_back(std::move(*slot));
      }
    }
    const bool finished = pushed == stream.num_samples() && *between(0, 2) == 0;
    if (finished) {
      first.finish();
      if (auto slot = first.next_slot()) slots.push_back(std::move(*slot));
    }
    StreamPacker second(stream.options);
    second.load(first.save());
    RC_ASSERT(second.save() == first.save());
    if (finished) {
      take_slots(second, slots);
    } else {
      const std::vector<StreamSlot> rest = run_stream(second, stream, pushed);
      slots.insert(slots.end(), rest.begin(), rest.end());
    }
    RC_ASSERT(slots == expected);
    RC_ASSERT(second.samples_out() == stream.num_samples());
  });
}

}  // namespace
}  // namespace gimbal
