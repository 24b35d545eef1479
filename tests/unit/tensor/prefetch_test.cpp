#include "gimbal/tensor/prefetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "gimbal/base/error.h"
#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"
#include "unit/tensor/tensor_values.h"

namespace gimbal {
namespace {

using testing::DatasetFixture;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kImageToken;
using testing::make_picture;
using testing::message_of;
using testing::TempFolder;
using testing::values_of;

constexpr std::uint32_t kNumSamples = 40;
constexpr std::uint32_t kBadSample = 40;  // its picture is no picture
constexpr std::chrono::milliseconds kSettle(30);

class PrefetcherTest : public ::testing::TestWithParam<int> {
 protected:
  static std::filesystem::path write(const std::filesystem::path& folder) {
    DatasetFixture fixture(folder);
    for (std::uint32_t i = 0; i < kNumSamples; ++i) {
      // Sizes differ, so that workers finish in another order than they begin.
      const Image picture = make_picture(i % 7 == 0 ? 600 : 8, 30, static_cast<int>(i));
      const std::uint32_t item = fixture.add_picture(concat("p", i, ".png"), picture);
      fixture.add_sample({50 + i, 1, kImageToken, kImageToken, kImageToken, kImageToken, 3},
                         {{6, 7}}, {item});
    }
    const std::uint32_t bad = fixture.add_picture("bad.png", "text", make_picture(8, 8));
    fixture.add_sample({1, kImageToken, kImageToken, kImageToken, kImageToken}, {}, {bad});
    return fixture.write();
  }

  // Requests of two samples each, in order.
  Prefetcher::NextRequest pairs() {
    return [this](std::vector<std::uint32_t>& samples) {
      const std::uint32_t first = num_requests_++ * 2;
      samples = {first, first + 1};
      return first + 1 < kNumSamples;
    };
  }

  TempFolder folder_;
  Dataset dataset_{write(folder_ / "set")};
  ImageProcessor processor_{dataset_.image_processor()};
  std::atomic<std::uint32_t> num_requests_ = 0;
};

TEST_P(PrefetcherTest, DeliversTheSameBatchesInOrder) {
  Prefetcher prefetcher(dataset_, processor_, GetParam(), 3, pairs());
  Batch batch;
  for (std::uint32_t i = 0; i + 1 < kNumSamples; i += 2) {
    ASSERT_TRUE(prefetcher.next(batch));
    ASSERT_THAT(batch.samples, ElementsAre(i, i + 1));
    const Batch expected = collate(dataset_, processor_, std::array{i, i + 1});
    EXPECT_EQ(values_of<std::int64_t>(batch.token_ids_T),
              values_of<std::int64_t>(expected.token_ids_T));
    EXPECT_EQ(values_of<float>(batch.pixels_ICYX), values_of<float>(expected.pixels_ICYX));
  }
  EXPECT_FALSE(prefetcher.next(batch));
  EXPECT_FALSE(prefetcher.next(batch));
}

TEST_P(PrefetcherTest, ReadsTheTilesThatAreChosen) {
  const auto last = [](std::int64_t num_tiles) { return TileRange{num_tiles - 1, num_tiles}; };
  Prefetcher prefetcher(dataset_, processor_, GetParam(), 3, pairs(), last);
  Batch batch;
  ASSERT_TRUE(prefetcher.next(batch));
  const Batch whole = collate(dataset_, processor_, std::array{0U, 1U});
  ASSERT_EQ(whole.num_tiles, 2);
  EXPECT_EQ(batch.num_tiles, 2);
  EXPECT_EQ(batch.first_tile, 1);
  EXPECT_TRUE(batch.pixels_ICYX.equal(whole.pixels_ICYX.narrow(0, 1, 1)));
}

TEST_P(PrefetcherTest, DeliversAnErrorAtItsPlaceAndGoesOn) {
  const std::vector<std::uint32_t> order = {3, 5, kBadSample, 6, kBadSample, 8};
  std::size_t at = 0;
  Prefetcher prefetcher(dataset_, processor_, GetParam(), 4,
                        [&](std::vector<std::uint32_t>& samples) {
                          if (at == order.size()) return false;
                          samples = {order[at++]};
                          return true;
                        });
  Batch batch;
  for (const std::uint32_t sample : order) {
    if (sample == kBadSample) {
      EXPECT_THAT(message_of<UserError>([&] { prefetcher.next(batch); }),
                  HasSubstr("sample 40 (digits"));
    } else {
      ASSERT_TRUE(prefetcher.next(batch));
      EXPECT_THAT(batch.samples, ElementsAre(sample));
    }
  }
  EXPECT_FALSE(prefetcher.next(batch));
}

TEST_P(PrefetcherTest, DeliversAnErrorOfTheRequestsAndEnds) {
  Prefetcher prefetcher(dataset_, processor_, GetParam(), 4,
                        [this](std::vector<std::uint32_t>& samples) {
                          if (num_requests_++ == 2) throw std::runtime_error("no more order");
                          samples = {0};
                          return true;
                        });
  Batch batch;
  EXPECT_TRUE(prefetcher.next(batch));
  EXPECT_TRUE(prefetcher.next(batch));
  EXPECT_EQ(message_of<std::runtime_error>([&] { prefetcher.next(batch); }), "no more order");
  EXPECT_FALSE(prefetcher.next(batch));
  EXPECT_EQ(num_requests_, 3U);
}

TEST_P(PrefetcherTest, CanBeDroppedAtAnyMoment) {
  for (int taken = 0; taken < 6; ++taken) {
    num_requests_ = 0;
    Prefetcher prefetcher(dataset_, processor_, GetParam(), 2, pairs());
    Batch batch;
    for (int i = 0; i < taken; ++i) ASSERT_TRUE(prefetcher.next(batch));
  }
}

TEST_P(PrefetcherTest, MeasuresTheWait) {
  Prefetcher prefetcher(dataset_, processor_, GetParam(), 2,
                        [&](std::vector<std::uint32_t>& samples) {
                          std::this_thread::sleep_for(kSettle);
                          samples = {0};
                          return true;
                        });
  Batch batch;
  ASSERT_TRUE(prefetcher.next(batch));
  EXPECT_GT(prefetcher.take_wait_seconds(), 0.0);
  EXPECT_EQ(prefetcher.take_wait_seconds(), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Workers, PrefetcherTest, ::testing::Values(0, 1, 3),
                         [](const auto& test) { return concat(test.param, "_workers"); });

using PrefetcherBoundTest = PrefetcherTest;

TEST_P(PrefetcherBoundTest, NeverHasMoreThanDepthBatchesAhead) {
  constexpr std::uint32_t kDepth = 3;
  Prefetcher prefetcher(dataset_, processor_, GetParam(), kDepth, pairs());
  Batch batch;
  for (std::uint32_t taken = 0; taken < 5; ++taken) {
    // The workers get as far as they are allowed to.
    for (int i = 0; i < 100 && num_requests_ < taken + kDepth; ++i)
      std::this_thread::sleep_for(kSettle);
    std::this_thread::sleep_for(kSettle);
    EXPECT_EQ(num_requests_, taken + kDepth);
    ASSERT_TRUE(prefetcher.next(batch));
  }
}

INSTANTIATE_TEST_SUITE_P(Workers, PrefetcherBoundTest, ::testing::Values(1, 2));

TEST_F(PrefetcherTest, NeedsADepth) {
  EXPECT_THROW(Prefetcher(dataset_, processor_, 1, 0, pairs()), InternalError);
}

}  // namespace
}  // namespace gimbal
