#include "gimbal/balance/stream/stream_packer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <numeric>

#include "gimbal/balance/bound/fast.h"
#include "gimbal/base/error.h"
#include "unit/balance/sample_sets.h"
#include "unit/balance/stream_cases.h"

namespace gimbal {
namespace {

using namespace testing;
using ::testing::HasSubstr;

StreamPackerOptions two_streams() {
  StreamPackerOptions options;
  options.num_streams = 2;
  options.names = {"vision", "tokens"};
  options.caps.rows = {16, 5376};
  options.costs = {{100, 0}, {1, 1e-4}};
  options.packs_per_slot = 8;
  options.window = 4096;
  return options;
}

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const UserError& e) {
    return e.what();
  }
  return "no error";
}

using Rows = std::vector<std::uint32_t>;

TEST(StreamPacker, GivesNothingWithoutSamples) {
  StreamPacker packer(two_streams());
  EXPECT_FALSE(packer.next_slot());
  packer.finish();
  EXPECT_FALSE(packer.next_slot());
}

TEST(StreamPacker, GivesASingleSampleAtTheEnd) {
  StreamPacker packer(two_streams());
  packer.push(7, Rows{5, 1000});
  EXPECT_FALSE(packer.next_slot());
  packer.finish();
  EXPECT_EQ(packer.next_slot(), (StreamSlot{{7}}));
  EXPECT_FALSE(packer.next_slot());
  EXPECT_EQ(packer.samples_out(), 1U);
}

// Real proportions: few packs, alike in every stream and in cost, none of them kept for the end.
TEST(StreamPacker, PacksNearTheBoundAndAlike) {
  const SampleSet set = tiled_pictures(20000, 3);
  const StreamCase stream{two_streams(), set.rows};
  StreamPacker packer(stream.options);
  const std::vector<StreamSlot> slots = run_stream(packer, stream);
  std::uint64_t packs = 0, whole_slots = 0;
  std::vector<double> waste(3, 0.0);
  for (const StreamSlot& slot : slots) {
    packs += slot.size();
    if (slot.size() < 8) continue;
    ++whole_slots;
    std::vector<double> most(3, 0.0), sum(3, 0.0);
    for (const auto& pack : slot) {
      std::vector<double> load(3, 0.0);
      for (const std::uint64_t id : pack) {
        const auto rows = stream.sample(id - StreamCase::id(0));
        load[0] += rows[0];
        load[1] += rows[1];
        load[2] += 100.0 * rows[0] + rows[1] + 1e-4 * rows[1] * rows[1];
      }
      for (std::size_t d = 0; d < 3; ++d) {
        most[d] = std::max(most[d], load[d]);
        sum[d] += load[d];
      }
    }
    for (std::size_t d = 0; d < 3; ++d) waste[d] += 1 - sum[d] / (8 * most[d]);
  }
  for (const double w : waste) EXPECT_LT(w / static_cast<double>(whole_slots), 0.01);
  std::vector<std::uint32_t> order(stream.num_samples());
  std::iota(order.begin(), order.end(), 0U);
  const std::uint64_t bound =
      fast_lower_bound({{set.rows, 2}, stream.options.caps, stream.options.costs}, order);
  EXPECT_LT(static_cast<double>(packs), 1.015 * static_cast<double>(bound));
}

TEST(StreamPacker, OtherSeedsGiveOtherCompanions) {
  StreamCase stream{two_streams(), tiled_pictures(5000, 3).rows};
  StreamPacker one(stream.options);
  stream.options.seed = 1;
  StreamPacker other(stream.options);
  EXPECT_NE(run_stream(one, stream), run_stream(other, stream));
}

TEST(StreamPacker, FillsASlotFromAWindowThatIsTooSmall) {
  StreamPackerOptions options = two_streams();
  options.window = 3;
  StreamPacker packer(options);
  for (std::uint64_t i = 0; i < 8; ++i) packer.push(i, Rows{1, 1});
  const auto slot = packer.next_slot();
  ASSERT_TRUE(slot);
  EXPECT_EQ(slot->size(), 8U);  // all would fit into one pack
}

TEST(StreamPacker, GivesWholeSlotsOfSamplesThatNeedAPackEach) {
  StreamPackerOptions options = two_streams();
  options.window = 20;
  const StreamCase stream{options, [] {
                            Rows rows;
                            for (int i = 0; i < 100; ++i) rows.insert(rows.end(), {16, 5000});
                            return rows;
                          }()};
  StreamPacker packer(options);
  const std::vector<StreamSlot> slots = run_stream(packer, stream);
  ASSERT_EQ(slots.size(), 13U);
  for (std::size_t s = 0; s + 1 < slots.size(); ++s) EXPECT_EQ(slots[s].size(), 8U);
  EXPECT_EQ(slots.back().size(), 4U);
}

TEST(StreamPacker, GivesSamplesWithoutRowsAndOfTheLargestSize) {
  StreamPackerOptions options = two_streams();
  options.window = 16;
  options.caps.rows = {0, std::uint64_t{1} << 63};
  const std::uint32_t most = std::numeric_limits<std::uint32_t>::max();
  StreamCase stream{options, {}};
  for (std::uint32_t i = 0; i < 50; ++i) {
    stream.rows.insert(stream.rows.end(), {0, i % 2 == 0 ? 0 : most});
  }
  StreamPacker packer(options);
  run_stream(packer, stream);
  EXPECT_EQ(packer.samples_out(), 50U);
}

TEST(StreamPacker, NamesAnOversizeSampleAndGoesOn) {
  StreamPacker packer(two_streams());
  packer.push(1, Rows{1, 1});
  const std::string error = error_of([&] { packer.push(42, Rows{5, 9000}); });
  EXPECT_THAT(error, HasSubstr("42"));
  EXPECT_THAT(error, HasSubstr("9000 tokens, cap 5376"));
  EXPECT_EQ(packer.samples_in(), 1U);
  packer.finish();
  EXPECT_EQ(packer.next_slot(), (StreamSlot{{1}}));
}

TEST(StreamPacker, RejectsOversizeSamplesWithAReason) {
  StreamPackerOptions options = two_streams();
  options.oversize = OversizePolicy::kReject;
  StreamPacker packer(options);
  packer.push(42, Rows{17, 100});
  packer.push(43, Rows{1, 1});
  StreamPacker restored(options);
  restored.load(packer.save());
  const auto rejected = restored.take_rejected();
  ASSERT_EQ(rejected.size(), 1U);
  EXPECT_EQ(rejected[0].first, 42U);
  EXPECT_THAT(rejected[0].second, HasSubstr("17 vision, cap 16"));
  EXPECT_TRUE(restored.take_rejected().empty());
  EXPECT_EQ(restored.samples_in(), 2U);
  EXPECT_EQ(restored.samples_rejected(), 1U);
  EXPECT_EQ(restored.samples_held(), 1U);
}

TEST(StreamPacker, PacksOversizeSamplesAlone) {
  StreamPackerOptions options = two_streams();
  options.oversize = OversizePolicy::kAlone;
  options.window = 8;
  options.packs_per_slot = 2;
  StreamCase stream{options, {}};
  for (int i = 0; i < 30; ++i) stream.rows.insert(stream.rows.end(), {1, i % 3 == 0 ? 9000U : 10U});
  StreamPacker packer(options);
  std::uint64_t alone = 0;
  for (const StreamSlot& slot : run_stream(packer, stream)) {
    for (const auto& pack : slot) {
      const bool large = (pack[0] - StreamCase::id(0)) % 3 == 0;
      if (!large) continue;
      ++alone;
      EXPECT_EQ(pack.size(), 1U);
    }
  }
  EXPECT_EQ(alone, 10U);
}

TEST(StreamPacker, WorksWhenAllSamplesAreOversize) {
  for (const OversizePolicy policy : {OversizePolicy::kReject, OversizePolicy::kAlone}) {
    StreamPackerOptions options = two_streams();
    options.oversize = policy;
    options.window = 10;
    StreamCase stream{options, {}};
    for (int i = 0; i < 30; ++i) stream.rows.insert(stream.rows.end(), {99, 1});
    StreamPacker packer(options);
    run_stream(packer, stream);
    EXPECT_EQ(packer.samples_out() + packer.samples_rejected(), 30U);
    EXPECT_EQ(packer.samples_rejected(), policy == OversizePolicy::kReject ? 30U : 0U);
  }
}

TEST(StreamPacker, RefusesWrongPushes) {
  StreamPacker packer(two_streams());
  EXPECT_THAT(error_of([&] {
                packer.push(5, Rows{1, 2, 3});
              }),
              HasSubstr("sample 5 has 3 sizes; the packer has 2 streams"));
  packer.finish();
  EXPECT_THAT(error_of([&] { packer.push(6, Rows{1, 2}); }), HasSubstr("after finish()"));
}

TEST(StreamPacker, RefusesOptionsThatCannotWork) {
  const auto with = [](const std::function<void(StreamPackerOptions&)>& change) {
    return error_of([&] {
      StreamPackerOptions options = two_streams();
      change(options);
      StreamPacker packer(options);
    });
  };
  EXPECT_THAT(with([](auto& o) { o.num_streams = 0; }), HasSubstr("num_streams is 0"));
  const auto streams = [&](int count) {
    return with([count](auto& o) {
      o.num_streams = count;
      o.names.clear();
      o.costs.assign(static_cast<std::size_t>(count), {1, 0});
    });
  };
  EXPECT_EQ(streams(8), "no error");
  EXPECT_THAT(streams(9), HasSubstr("num_streams is 9; it must be from 1 to 8"));
  EXPECT_THAT(with([](auto& o) { o.costs.pop_back(); }), HasSubstr("1 costs for 2 streams"));
  EXPECT_THAT(with([](auto& o) { o.caps.rows.push_back(4); }), HasSubstr("3 caps"));
  EXPECT_THAT(with([](auto& o) { o.names.pop_back(); }), HasSubstr("1 names"));
  EXPECT_THAT(with([](auto& o) { o.packs_per_slot = 0; }), HasSubstr("packs_per_slot is 0"));
  EXPECT_THAT(with([](auto& o) { o.window = 0; }), HasSubstr("window is 0"));
  EXPECT_THAT(with([](auto& o) { o.window = ~std::uint64_t{0}; }), HasSubstr("from 1 to 2^31"));
  EXPECT_THAT(with([](auto& o) { o.caps = {}; }), HasSubstr("no cap is set"));
  EXPECT_THAT(with([](auto& o) { o.costs[1].per_row = -1; }), HasSubstr("tokens"));
}

TEST(StreamPacker, RefusesStatesThatAreNotItsOwn) {
  StreamPackerOptions options = two_streams();
  StreamPacker packer(options);
  for (std::uint64_t i = 0; i < 10; ++i) packer.push(i, Rows{1, 100});
  const std::string state = packer.save();
  EXPECT_THAT(error_of([&] { packer.load("GIMBAL"); }), HasSubstr("not the state"));
  EXPECT_THAT(error_of([&] { packer.load(std::string(100, 'x')); }), HasSubstr("not the state"));
  std::string other = state;
  other[8] = 9;
  EXPECT_THAT(error_of([&] { packer.load(other); }), HasSubstr("version 9"));
  EXPECT_THAT(error_of([&] { packer.load(state.substr(0, state.size() - 1)); }),
              HasSubstr("damaged"));
  options.seed = 5;
  EXPECT_THAT(error_of([&] { StreamPacker(options).load(state); }), HasSubstr("other options"));
  EXPECT_EQ(packer.save(), state);
}

TEST(StreamPacker, FindsEveryDamagedByteOfAState) {
  StreamPacker packer(two_streams());
  for (std::uint64_t i = 0; i < 5; ++i) packer.push(i, Rows{1, 100});
  const std::string state = packer.save();
  for (std::size_t at = 0; at < state.size(); ++at) {
    std::string damaged = state;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    EXPECT_THROW(packer.load(damaged), UserError) << "byte " << at;
  }
}

// Each option that decides what is given is part of the fingerprint.
TEST(StreamPacker, RefusesTheStateOfAnyOtherOption) {
  const std::string state = StreamPacker(two_streams()).save();
  const std::vector<std::function<void(StreamPackerOptions&)>> changes{
      [](auto& o) { o.caps.rows[0] = 17; },
      [](auto& o) { o.caps.rows[1] = 0; },
      [](auto& o) { o.caps.samples = 3; },
      [](auto& o) { o.caps.cost = 1e6; },
      [](auto& o) { o.costs[0].per_row = 2; },
      [](auto& o) { o.costs[0].per_pair = 2; },
      [](auto& o) { o.packs_per_slot = 4; },
      [](auto& o) { o.window = 4095; },
      [](auto& o) { o.oversize = OversizePolicy::kAlone; },
      [](auto& o) { o.seed = 1; }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    StreamPackerOptions options = two_streams();
    changes[i](options);
    EXPECT_THROW(StreamPacker(options).load(state), UserError) << "change " << i;
  }
  StreamPackerOptions renamed = two_streams();
  renamed.names = {"a", "b"};
  EXPECT_NO_THROW(StreamPacker(renamed).load(state));
}

}  // namespace
}  // namespace gimbal
