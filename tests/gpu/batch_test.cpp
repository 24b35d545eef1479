// Batches on their way to the device.
#include <ATen/ops/equal.h>

#include <array>
#include <vector>

#include "gimbal/tensor/prefetch.h"
#include "gpu/cuda_device.h"
#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using namespace gpu_tests;  // NOLINT: a test's own helpers
using testing::DatasetFixture;
using testing::kImageToken;
using testing::make_picture;
using testing::TempFolder;

TileRange read_no_tiles(std::int64_t) { return {}; }

class GpuBatch : public Gpu {
 protected:
  static std::filesystem::path write(const std::filesystem::path& folder) {
    DatasetFixture fixture(folder);
    for (std::uint32_t i = 0; i < 20; ++i) {
      const auto item = fixture.add_picture("p" + std::to_string(i) + ".png",
                                            make_picture(60, 30, static_cast<int>(i)));
      fixture.add_sample({50 + i, 1, kImageToken, kImageToken, kImageToken, kImageToken, 3},
                         {{6, 7}}, {item});
    }
    return fixture.write();
  }

  static std::vector<at::Tensor> tensors_of(const Batch& batch) {
    return {batch.token_ids_T, batch.positions_T, batch.pixels_ICYX,   batch.image_rows_R,
            batch.loss_rows_Q, batch.targets_Q,   batch.loss_weights_Q};
  }
  static void expect_same(const Batch& ours, const Batch& expected) {
    const auto a = tensors_of(ours), b = tensors_of(expected);
    for (std::size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(at::equal(a[i].cpu(), b[i].cpu())) << "tensor " << i;
    EXPECT_EQ(ours.samples, expected.samples);
    EXPECT_EQ(ours.text_cu_seqlens, expected.text_cu_seqlens);
    EXPECT_EQ(ours.loss_rows, expected.loss_rows);
  }

  TempFolder folder_;
  Dataset dataset_{write(folder_ / "set")};
  ImageProcessor processor_{dataset_.image_processor()};
};

TEST_F(GpuBatch, PinnedAndMovedBatchesAreTheSame) {
  const Batch batch = collate(dataset_, processor_, std::array<std::uint32_t, 3>{4, 0, 7});
  const Batch pinned = to_pinned(batch);
  for (const at::Tensor& tensor : tensors_of(pinned)) EXPECT_TRUE(tensor.is_pinned());
  expect_same(pinned, batch);
  for (const Batch& from : {batch, pinned}) {
    const Batch moved = to_device(from, kCuda);
    for (const at::Tensor& tensor : tensors_of(moved)) EXPECT_TRUE(tensor.is_cuda());
    expect_same(moved, batch);
    expect_same(to_device(moved, at::kCPU), batch);
  }
  const Batch text =
      to_pinned(collate(dataset_, processor_, std::array<std::uint32_t, 1>{2}, read_no_tiles));
  EXPECT_EQ(to_device(text, kCuda).pixels_ICYX.size(0), 0);
}

TEST_F(GpuBatch, PrefetchedBatchesArePinnedAndMayGoAtOnce) {
  for (const int num_workers : {0, 2}) {
    std::uint32_t next = 0;
    Prefetcher prefetcher(
        dataset_, processor_, num_workers, 3,
        [&next](std::vector<std::uint32_t>& samples) {
          samples = {next % 20, (next + 1) % 20};
          next += 2;
          return next <= 40;
        },
        all_tiles, kCuda);
    std::vector<Batch> moved;
    for (Batch batch; prefetcher.next(batch);) {
      EXPECT_TRUE(batch.pixels_ICYX.is_pinned());
      moved.push_back(to_device(batch, kCuda));
      batch = Batch();  // its memory is used again while the copy may still run
    }
    ASSERT_EQ(moved.size(), 20u);
    for (std::uint32_t i = 0; i < 20; ++i) {
      const std::array<std::uint32_t, 2> samples{2 * i % 20, (2 * i + 1) % 20};
      expect_same(moved[i], collate(dataset_, processor_, samples));
    }
  }
}

}  // namespace
}  // namespace gimbal
