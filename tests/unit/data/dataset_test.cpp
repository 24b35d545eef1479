#include "gimbal/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "gimbal/base/error.h"
#include "gimbal/data/dataset_manifest.h"
#include "support/dataset_fixture.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::testing::AllOf;
using testing::DatasetFixture;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::make_picture;
using testing::message_of;
using testing::TempFolder;

// Two samples, one with a picture file and an embedded picture.
DatasetFixture two_samples(const TempFolder& folder) {
  DatasetFixture fixture(folder / "set");
  const std::uint32_t file = fixture.add_picture("a.png", make_picture(20, 10), 2, 1);
  const std::uint32_t blob = fixture.add_blob(make_picture(5, 6));
  fixture.add_sample({1, 2, 3}, {{1, 3}});
  fixture.add_sample({4, 7, 7, 7, 7, 5, 6}, {{5, 6}, {6, 7}}, {file, blob});
  return fixture;
}

std::string open_error(const std::filesystem::path& folder) {
  return message_of<UserError>([&] { const Dataset dataset(folder); });
}

TEST(Dataset, ReadsSamplesMediaAndModel) {
  const TempFolder folder;
  const Dataset dataset(two_samples(folder).write());
  ASSERT_EQ(dataset.num_samples(), 2U);
  EXPECT_THAT(dataset.tokens(0), ElementsAre(1, 2, 3));
  EXPECT_THAT(dataset.tokens(1), ElementsAre(4, 7, 7, 7, 7, 5, 6));
  ASSERT_EQ(dataset.loss_spans(1).size(), 2U);
  EXPECT_EQ(dataset.loss_spans(1)[1].begin, 6U);
  EXPECT_TRUE(dataset.media_refs(0).empty());
  EXPECT_THAT(dataset.media_refs(1), ElementsAre(0, 1));
  EXPECT_EQ(dataset.sample(1).vision_rows, 4U);
  EXPECT_EQ(dataset.media(0).grid_columns, 2U);
  EXPECT_EQ(dataset.media_path(0), folder / "set" / "a.png");
  EXPECT_EQ(dataset.media_path(1), "");
  EXPECT_EQ(decode_image(dataset.media_blob(1), "blob").rgb, make_picture(5, 6).rgb);
  EXPECT_EQ(dataset.describe_sample(1), "sample 1 (digits, train.jsonl line 2)");
  EXPECT_EQ(dataset.model().image_token_id, 7);
  EXPECT_EQ(dataset.model().image_seq_length, 4);
  EXPECT_THAT(dataset.model().eos_token_ids, ElementsAre(2));
  EXPECT_EQ(dataset.image_processor().height, 16);
  EXPECT_THAT(dataset.image_processor().image_std, ElementsAre(0.25, 0.5, 0.2));
  EXPECT_EQ(dataset.sources().at(0).num_samples, 2U);
  EXPECT_THAT(dataset.fingerprint(),
              AllOf(HasSubstr("sha-of-index.bin;"), HasSubstr("sha-of-tokens.bin;")));
}

TEST(Dataset, CanBeMoved) {
  const TempFolder folder;
  Dataset first(two_samples(folder).write());
  const Dataset second(std::move(first));
  EXPECT_THAT(second.tokens(0), ElementsAre(1, 2, 3));
}

TEST(Dataset, WithoutSamples) {
  const TempFolder folder;
  const Dataset dataset(DatasetFixture(folder / "set").write());
  EXPECT_EQ(dataset.num_samples(), 0U);
}

TEST(Dataset, RelativeMediaRootIsInsideTheFolder) {
  const TempFolder folder;
  const Dataset dataset(two_samples(folder).write({{"media_root", "pictures"}}));
  EXPECT_EQ(dataset.media_path(0), folder / "set" / "pictures" / "a.png");
}

TEST(Dataset, TextOnlyModelHasNoImageProcessor) {
  const TempFolder folder;
  DatasetFixture fixture(folder / "set");
  fixture.add_sample({1, 2});
  const Dataset dataset(
      fixture.write({{"image_processor", nullptr}, {"model", {{"image_token_id", nullptr}}}}));
  EXPECT_EQ(dataset.image_processor().type, "");
  EXPECT_EQ(dataset.model().image_token_id, -1);
}

TEST(Dataset, MissingFolder) {
  EXPECT_THAT(open_error("/nonexistent/set"),
              AllOf(HasSubstr("/nonexistent/set"), HasSubstr("no such dataset folder")));
}

TEST(Dataset, MissingManifestIsAnUnfinishedFolder) {
  const TempFolder folder;
  const auto path = two_samples(folder).write();
  std::filesystem::remove(path / "manifest.json");
  EXPECT_THAT(open_error(path),
              AllOf(HasSubstr("unfinished"), HasSubstr("run gimbal prepare again")));
}

TEST(Dataset, ManifestOfAnotherKindOrVersion) {
  const TempFolder folder;
  DatasetFixture fixture = two_samples(folder);
  EXPECT_THAT(open_error(fixture.write({{"version", 2}})),
              AllOf(HasSubstr("manifest.json"), HasSubstr("format version 2 is unknown"),
                    HasSubstr("version 1")));
  EXPECT_THAT(open_error(fixture.write({{"version", 1}, {"format", "other"}})),
              HasSubstr("no manifest of a Gimbal dataset"));
}

TEST(Dataset, ManifestKeyThatIsMissingOrWrong) {
  const TempFolder folder;
  DatasetFixture fixture = two_samples(folder);
  EXPECT_THAT(open_error(fixture.write({{"model", nullptr}})), HasSubstr("'model' is missing"));
  fixture = two_samples(folder);
  EXPECT_THAT(
      open_error(fixture.write({{"model", {{"image_seq_length", "four"}}}})),
      AllOf(HasSubstr("manifest.json: model"), HasSubstr("'image_seq_length' has a wrong type")));
  fixture = two_samples(folder);
  EXPECT_THAT(open_error(fixture.write({{"image_processor", {{"do_convert_rgb", false}}}})),
              HasSubstr("do_convert_rgb"));
}

TEST(Dataset, FileThatIsMissingOrHasAnotherSize) {
  for (const char* name : {"index.bin", "tokens.bin", "loss_spans.bin", "media_refs.bin",
                           "media.bin", "media_paths.bin", "media_blobs.bin"}) {
    const TempFolder folder;
    const auto path = two_samples(folder).write();
    std::filesystem::resize_file(path / name, std::filesystem::file_size(path / name) - 1);
    EXPECT_THAT(open_error(path),
                AllOf(HasSubstr(name), HasSubstr("but the manifest says"), HasSubstr("damaged")));
    std::filesystem::remove(path / name);
    EXPECT_THAT(open_error(path), AllOf(HasSubstr(name), HasSubstr("is missing")));
  }
  const TempFolder folder;
  EXPECT_THAT(open_error(two_samples(folder).write({{"files", {{"tokens.bin", nullptr}}}})),
              HasSubstr("files.tokens.bin is missing"));
}

TEST(Dataset, CountsThatDisagreeWithTheFiles) {
  for (const char* name :
       {"samples", "tokens", "loss_tokens", "loss_spans", "vision_rows", "media_refs", "media"}) {
    const TempFolder folder;
    const std::string message = open_error(two_samples(folder).write({{"counts", {{name, 999}}}}));
    EXPECT_THAT(message, HasSubstr(std::string("counts.") + name + " is 999"));
  }
}

TEST(Dataset, RecordsThatPointOutside) {
  using Change = void (*)(DatasetFixture&);
  const std::vector<Change> index_changes = {
      [](DatasetFixture& f) { f.samples[1].token_begin = 4; },
      [](DatasetFixture& f) { f.samples[1].token_begin = ~0ULL; },
      [](DatasetFixture& f) { f.samples[1].loss_span_begin = 2; },
      [](DatasetFixture& f) { f.samples[1].media_begin = 1; },
      [](DatasetFixture& f) { f.samples[1].source = 1; },
      [](DatasetFixture& f) { f.samples[1].source_file = 1; },
      [](DatasetFixture& f) { f.samples[1].status = 1; },
      [](DatasetFixture& f) { f.samples[1].num_loss_tokens = 8; },
  };
  for (const Change change : index_changes) {
    const TempFolder folder;
    DatasetFixture fixture = two_samples(folder);
    change(fixture);
    EXPECT_THAT(open_error(fixture.write()), AllOf(HasSubstr("index.bin"), HasSubstr("record 1")));
  }
  const std::vector<Change> media_changes = {
      [](DatasetFixture& f) { f.media[1].byte_size += 1; },
      [](DatasetFixture& f) { f.media[1].storage = 2; },
      [](DatasetFixture& f) { f.media[1].kind = 1; },
      [](DatasetFixture& f) { f.media[1] = f.media[0], f.media[1].path_length = 100; },
  };
  for (const Change change : media_changes) {
    const TempFolder folder;
    DatasetFixture fixture = two_samples(folder);
    change(fixture);
    EXPECT_THAT(open_error(fixture.write()), AllOf(HasSubstr("media.bin"), HasSubstr("record 1")));
  }
  const TempFolder folder;
  DatasetFixture fixture(folder / "set");
  fixture.add_sample({1}, {}, {3});
  EXPECT_THAT(open_error(fixture.write()),
              AllOf(HasSubstr("media_refs.bin"), HasSubstr("entry 0 is 3")));
}

TEST(Dataset, StreamNames) {
  EXPECT_EQ(stream_name(Stream::kText), "text");
  EXPECT_EQ(stream_name(Stream::kVision), "vision");
  EXPECT_EQ(stream_name(Stream::kAudio), "audio");
}

TEST(ImageProcessorFile, ReadsTheObjectAloneOrInsideAManifest) {
  const TempFolder folder;
  const auto path = two_samples(folder).write();
  EXPECT_EQ(read_image_processor(path / "manifest.json").width, 16);
  std::ofstream(folder / "alone.json")
      << R"({"type": "x", "height": 3, "width": 5, "do_normalize": false})";
  EXPECT_EQ(read_image_processor(folder / "alone.json").width, 5);
}

}  // namespace
}  // namespace gimbal
