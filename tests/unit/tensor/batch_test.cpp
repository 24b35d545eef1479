#include "gimbal/tensor/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "gimbal/base/error.h"
#include "gimbal/tensor/dtype.h"
#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"
#include "unit/tensor/tensor_values.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using testing::DatasetFixture;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::kImageToken;
using testing::make_picture;
using testing::message_of;
using testing::TempFolder;
using testing::values_of;

constexpr std::uint32_t kI = kImageToken;

TileRange read_no_tiles(std::int64_t) { return {}; }

// Sample 0: text. Sample 1: a picture of one tile, a question, an embedded picture of 3 tiles (2 x
// 1 and thumbnail), an answer.
class CollateTest : public ::testing::Test {
 protected:
  void add_samples() {
    picture_ = fixture_.add_picture("a.png", make_picture(20, 21, 1));
    blob_ = fixture_.add_blob(make_picture(64, 32, 2), 2, 1);
    fixture_.add_sample({1, 2, 3, 4}, {{1, 2}, {3, 4}});
    fixture_.add_sample(
        {1, kI, kI, kI, kI, 5, kI, kI, kI, kI, kI, kI, kI, kI, kI, kI, kI, kI, 6, 2}, {{18, 20}},
        {picture_, blob_});
  }
  std::string collate_error(std::uint32_t sample) {
    return message_of<UserError>([&] {
      const Dataset dataset(fixture_.write());
      collate(dataset, ImageProcessor(dataset.image_processor()), std::array{sample});
    });
  }

  TempFolder folder_;
  DatasetFixture fixture_{folder_ / "set"};
  std::uint32_t picture_ = 0;
  std::uint32_t blob_ = 0;
};

TEST_F(CollateTest, JoinsSamplesWithoutPadding) {
  add_samples();
  const Dataset dataset(fixture_.write());
  const ImageProcessor processor(dataset.image_processor());
  const Batch batch = collate(dataset, processor, std::array{1U, 0U});
  EXPECT_THAT(batch.samples, ElementsAre(1, 0));
  EXPECT_THAT(batch.text_cu_seqlens, ElementsAre(0, 20, 24));
  EXPECT_EQ(batch.num_tokens(), 24);
  const auto tokens = values_of<std::int64_t>(batch.token_ids_T);
  EXPECT_EQ(tokens[5], 5);
  EXPECT_EQ(tokens[20], 1);
  EXPECT_EQ(tokens[23], 4);
  const auto positions = values_of<std::int64_t>(batch.positions_T);
  EXPECT_EQ(positions[19], 19);
  EXPECT_EQ(positions[20], 0);
  EXPECT_EQ(positions[23], 3);
  EXPECT_THAT(values_of<std::int64_t>(batch.image_rows_R),
              ElementsAre(1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17));
  EXPECT_THAT(values_of<std::int64_t>(batch.loss_rows_Q), ElementsAre(17, 18, 20, 22));
  EXPECT_THAT(values_of<std::int64_t>(batch.targets_Q), ElementsAre(6, 2, 2, 4));
  EXPECT_THAT(values_of<float>(batch.loss_weights_Q), ElementsAre(1.0F, 1.0F, 1.0F, 1.0F));

  EXPECT_THAT(batch.pixels_ICYX.sizes().vec(), ElementsAre(4, 3, 16, 16));
  std::vector<float> expected =
      values_of<float>(processor.process(make_picture(20, 21, 1), dataset.media(picture_)));
  const std::vector<float> second =
      values_of<float>(processor.process(make_picture(64, 32, 2), dataset.media(blob_)));
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(values_of<float>(batch.pixels_ICYX), expected);
}

TEST_F(CollateTest, CountsTilesAndKeepsRowsOnTheHost) {
  add_samples();
  const Dataset dataset(fixture_.write());
  const ImageProcessor processor(dataset.image_processor());
  const Batch whole = collate(dataset, processor, std::array{1U, 0U});
  EXPECT_EQ(whole.num_tiles, 4);
  EXPECT_EQ(whole.num_tiles, whole.pixels_ICYX.size(0));
  EXPECT_EQ(whole.image_rows, values_of<std::int64_t>(whole.image_rows_R));
  EXPECT_EQ(whole.loss_rows, values_of<std::int64_t>(whole.loss_rows_Q));
  EXPECT_FALSE(whole.image_rows.empty() || whole.loss_rows.empty());
  // Without pixels everything else is the same, and no picture is opened.
  std::filesystem::remove(dataset.media_path(picture_));
  const Batch blind = collate(dataset, processor, std::array{1U, 0U}, read_no_tiles);
  EXPECT_THAT(blind.pixels_ICYX.sizes().vec(), ElementsAre(0, 3, 16, 16));
  EXPECT_EQ(blind.num_tiles, 4);
  EXPECT_EQ(blind.image_rows, whole.image_rows);
  EXPECT_EQ(blind.loss_rows, whole.loss_rows);
  EXPECT_TRUE(blind.token_ids_T.equal(whole.token_ids_T));
}

// The pictures that collate opens: those without which it fails.
std::vector<std::size_t> opened(const std::vector<std::filesystem::path>& files,
                                const std::function<void()>& collate) {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const std::filesystem::path away = files[i].string() + ".away";
    std::filesystem::rename(files[i], away);
    try {
      collate();
    } catch (const UserError&) {
      result.push_back(i);
    }
    std::filesystem::rename(away, files[i]);
  }
  return result;
}

TEST_F(CollateTest, OpensThePicturesOfTheTilesAskedForAlone) {
  // Pictures of 1 tile, 3 (2 x 1 and thumbnail) and 5 (2 x 2 and thumbnail).
  const std::vector<TileRange> places{{0, 1}, {1, 4}, {4, 9}};
  fixture_.add_picture("0.png", make_picture(20, 21, 1));
  fixture_.add_picture("1.png", make_picture(64, 32, 2), 2, 1);
  fixture_.add_picture("2.png", make_picture(40, 40, 3), 2, 2);
  std::vector<std::uint32_t> first(18, kI), second(22, kI);
  first.front() = second.front() = 1;
  first.back() = second.back() = 2;
  fixture_.add_sample(first, {{17, 18}}, {0, 1});
  fixture_.add_sample(second, {{21, 22}}, {2});
  const Dataset dataset(fixture_.write());
  const ImageProcessor processor(dataset.image_processor());
  const std::vector<std::filesystem::path> files{dataset.media_path(0), dataset.media_path(1),
                                                 dataset.media_path(2)};
  const auto batch_of = [&](const TileChoice& tiles) {
    return collate(dataset, processor, std::array{0U, 1U}, tiles);
  };
  const Batch whole = batch_of(all_tiles);
  ASSERT_EQ(whole.num_tiles, 9);
  for (std::int64_t begin = 0; begin <= 9; ++begin) {
    for (std::int64_t end = begin; end <= 9; ++end) {
      const auto choice = [=](std::int64_t num_tiles) {
        EXPECT_EQ(num_tiles, 9);
        return TileRange{begin, end};
      };
      const Batch part = batch_of(choice);
      EXPECT_EQ(part.num_tiles, 9);
      EXPECT_EQ(part.first_tile, begin);
      EXPECT_TRUE(part.pixels_ICYX.equal(whole.pixels_ICYX.narrow(0, begin, end - begin)));
      EXPECT_TRUE(part.token_ids_T.equal(whole.token_ids_T));
      EXPECT_EQ(part.image_rows, whole.image_rows);
      std::vector<std::size_t> expected;
      for (std::size_t i = 0; i < places.size(); ++i) {
        if (begin < end && begin < places[i].end && places[i].begin < end) expected.push_back(i);
      }
      EXPECT_EQ(opened(files, [&] { batch_of(choice); }), expected) << begin << " to " << end;
    }
  }
  EXPECT_THROW(batch_of([](std::int64_t num_tiles) {
                 return TileRange{0, num_tiles + 1};
               }),
               InternalError);
  EXPECT_THROW(batch_of([](std::int64_t) { return TileRange{2, 1}; }), InternalError);
}

TEST_F(CollateTest, OfNothingHasZeroRowsOfTheRightTypes) {
  add_samples();
  const Dataset dataset(fixture_.write());
  const Batch batch = collate(dataset, ImageProcessor(dataset.image_processor()), {});
  EXPECT_EQ(batch.num_tokens(), 0);
  EXPECT_THAT(batch.text_cu_seqlens, ElementsAre(0));
  EXPECT_THAT(batch.pixels_ICYX.sizes().vec(), ElementsAre(0, 3, 16, 16));
  EXPECT_EQ(batch.pixels_ICYX.scalar_type(), at::kFloat);
  for (const at::Tensor& tensor : {batch.token_ids_T, batch.positions_T, batch.image_rows_R,
                                   batch.loss_rows_Q, batch.targets_Q}) {
    EXPECT_THAT(tensor.sizes().vec(), ElementsAre(0));
    EXPECT_EQ(tensor.scalar_type(), at::kLong);
  }
  EXPECT_THAT(batch.loss_weights_Q.sizes().vec(), ElementsAre(0));
  EXPECT_EQ(batch.loss_weights_Q.scalar_type(), at::kFloat);
}

TEST_F(CollateTest, PromptsTakeTheMediaThatLieInThem) {
  add_samples();
  const Dataset dataset(fixture_.write());
  const ImageProcessor processor(dataset.image_processor());
  const Batch one = collate_prompts(dataset, processor, std::array{1U, 0U}, std::array{6U, 2U});
  EXPECT_THAT(one.text_cu_seqlens, ElementsAre(0, 6, 8));
  EXPECT_EQ(one.pixels_ICYX.size(0), 1);
  EXPECT_THAT(values_of<std::int64_t>(one.image_rows_R), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(one.loss_rows_Q.numel(), 0);
  EXPECT_EQ(one.targets_Q.numel(), 0);
  const Batch both = collate_prompts(dataset, processor, std::array{1U}, std::array{18U});
  EXPECT_EQ(both.pixels_ICYX.size(0), 4);
  EXPECT_THROW(collate_prompts(dataset, processor, std::array{1U}, std::array{8U}), InternalError);
  EXPECT_THROW(collate_prompts(dataset, processor, std::array{1U}, std::array{21U}), InternalError);
  EXPECT_THROW(collate(dataset, processor, std::array{2U}), InternalError);
}

TEST_F(CollateTest, WrongNumberOfImageTokensNamesTheSample) {
  const std::uint32_t item = fixture_.add_picture("a.png", make_picture(20, 21));
  fixture_.add_sample({1, kI, kI, kI, 2}, {}, {item});
  EXPECT_THAT(collate_error(0),
              AllOf(HasSubstr("sample 0 (digits, train.jsonl line 1) has 3 image tokens (id 7)"),
                    HasSubstr("fill 4"), HasSubstr("gimbal prepare")));
}

TEST_F(CollateTest, LossSpansMustBePredictable) {
  for (const LossSpan span : {LossSpan{0, 1}, LossSpan{2, 2}, LossSpan{3, 5}, LossSpan{1, 2}}) {
    DatasetFixture fixture(folder_ / "spans");
    fixture.add_sample({1, 2, 3, 4}, {{1, 2}, span});
    fixture.samples[0].num_loss_tokens = 2;
    const std::string message = message_of<UserError>([&] {
      const Dataset dataset(fixture.write());
      collate(dataset, ImageProcessor(dataset.image_processor()), std::array{0U});
    });
    EXPECT_THAT(message, AllOf(HasSubstr("sample 0 (digits"),
                               HasSubstr(concat("loss span [", span.begin, ", "))));
  }
}

TEST_F(CollateTest, FirstTokenCannotBeATarget) {
  fixture_.add_sample({1, 2, 3}, {{0, 2}});
  EXPECT_THAT(collate_error(0), HasSubstr("loss span [0, 2) must lie in [1, 3)"));
}

TEST_F(CollateTest, LossTokensMustBeAsManyAsTheIndexSays) {
  fixture_.add_sample({1, 2, 3}, {{1, 2}});
  fixture_.samples[0].num_loss_tokens = 2;
  EXPECT_THAT(collate_error(0), HasSubstr("its loss spans hold 1 tokens, but the index says 2"));
}

TEST_F(CollateTest, TokensMustBeInTheVocabulary) {
  fixture_.add_sample({1, 2, 100});
  EXPECT_THAT(collate_error(0),
              HasSubstr("token 100 at position 2 is outside of the vocabulary of 100"));
}

TEST_F(CollateTest, PicturesThatCannotBeUsedNameSampleAndFile) {
  add_samples();
  fixture_.write();
  const auto file = folder_ / "set" / "a.png";
  std::ofstream(file) << "text";
  EXPECT_THAT(collate_error(1), AllOf(HasSubstr("sample 1 (digits, train.jsonl line 2): "),
                                      HasSubstr(file.string()), HasSubstr("no JPEG, PNG or WebP")));
  std::ofstream(file, std::ios::binary) << testing::encode_png(make_picture(21, 20));
  EXPECT_THAT(collate_error(1), AllOf(HasSubstr("sample 1 (digits"), HasSubstr(file.string()),
                                      HasSubstr("changed since gimbal prepare")));
  std::filesystem::remove(file);
  EXPECT_THAT(collate_error(1), AllOf(HasSubstr("sample 1 (digits"), HasSubstr(file.string())));
}

TEST_F(CollateTest, BrokenEmbeddedPictureIsNamed) {
  const std::uint32_t item = fixture_.add_blob(make_picture(20, 21));
  fixture_.media[item].byte_size -= 30;
  fixture_.add_sample({1, kI, kI, kI, kI, 2}, {}, {item});
  EXPECT_THAT(collate_error(0), AllOf(HasSubstr("sample 0 (digits"),
                                      HasSubstr("embedded picture 0: the PNG ends early")));
}

TEST_F(CollateTest, ToDeviceKeepsEverything) {
  add_samples();
  const Dataset dataset(fixture_.write());
  const Batch batch = collate(dataset, ImageProcessor(dataset.image_processor()), std::array{1U});
  const Batch moved = to_device(batch, at::Device(at::kMeta));
  EXPECT_EQ(moved.samples, batch.samples);
  EXPECT_EQ(moved.text_cu_seqlens, batch.text_cu_seqlens);
  for (const auto& [a, b] : {std::pair{moved.token_ids_T, batch.token_ids_T},
                             {moved.positions_T, batch.positions_T},
                             {moved.pixels_ICYX, batch.pixels_ICYX},
                             {moved.image_rows_R, batch.image_rows_R},
                             {moved.loss_rows_Q, batch.loss_rows_Q},
                             {moved.targets_Q, batch.targets_Q},
                             {moved.loss_weights_Q, batch.loss_weights_Q}}) {
    EXPECT_TRUE(a.is_meta());
    EXPECT_EQ(a.sizes(), b.sizes());
    EXPECT_EQ(a.scalar_type(), b.scalar_type());
  }
}

TEST(ScalarType, OfEachDType) {
  EXPECT_EQ(scalar_type(DType::kFloat32), at::kFloat);
  EXPECT_EQ(scalar_type(DType::kBFloat16), at::kBFloat16);
  EXPECT_EQ(scalar_type(DType::kFloat64), at::kDouble);
}

}  // namespace
}  // namespace gimbal
