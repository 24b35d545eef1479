#include "gimbal/balance/pack_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/rng.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::message_of;

PackFile three_packs() {
  PackFile file;
  file.packs.offsets = {0, 2, 3, 6};
  file.packs.samples = {4, 1, 0, 2, 5, 3};
  file.num_samples = 6;
  file.packs_per_step = 4;
  file.packs_per_slot = 2;
  file.seed = 0x123456789abcdef0;
  file.epoch = 7;
  return file;
}

class PackFileTest : public ::testing::Test {
 protected:
  // What loading these bytes says.
  std::string refused(const std::string& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes;
    return message_of<UserError>([&] { load_packs(path_); });
  }
  std::string saved(const PackFile& file) {
    save_packs(file, path_);
    return read_file(path_);
  }

  testing::TempFolder folder_;
  const std::filesystem::path path_ = folder_ / "packs.bin";
};

TEST_F(PackFileTest, GivesBackWhatWasSaved) {
  save_packs(three_packs(), path_);
  const PackFile file = load_packs(path_);
  EXPECT_EQ(file.packs.offsets, three_packs().packs.offsets);
  EXPECT_EQ(file.packs.samples, three_packs().packs.samples);
  EXPECT_EQ(file.num_samples, 6U);
  EXPECT_EQ(file.packs_per_step, 4U);
  EXPECT_EQ(file.packs_per_slot, 2U);
  EXPECT_EQ(file.seed, 0x123456789abcdef0U);
  EXPECT_EQ(file.epoch, 7U);
}

TEST_F(PackFileTest, HasTheDocumentedBytes) {
  const std::string bytes = saved(three_packs());
  ASSERT_EQ(bytes.size(), 136U + 4 * 8 + 6 * 4);
  EXPECT_EQ(bytes.substr(0, 8), std::string("GBPACKS\0", 8));
  const auto u32 = [&](std::size_t at) {
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + at, 4);
    return value;
  };
  const auto u64 = [&](std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + at, 8);
    return value;
  };
  EXPECT_EQ(u32(8), 1U);
  EXPECT_EQ(u32(12), 136U);
  EXPECT_THAT((std::vector{u64(16), u64(24), u64(32), u64(40), u64(48), u64(56), u64(64)}),
              ElementsAre(3, 6, 6, 4, 2, 0x123456789abcdef0U, 7));
  EXPECT_THAT((std::vector{u64(136), u64(144), u64(152), u64(160)}), ElementsAre(0, 2, 3, 6));
  EXPECT_THAT((std::vector{u32(168), u32(172), u32(176), u32(180), u32(184), u32(188)}),
              ElementsAre(4, 1, 0, 2, 5, 3));
}

TEST_F(PackFileTest, PadsAnOddNumberOfSamples) {
  PackFile file;
  file.packs.add(std::vector<std::uint32_t>{0});
  file.num_samples = 1;
  EXPECT_EQ(saved(file).size() % 8, 0U);
  EXPECT_THAT(load_packs(path_).packs.samples, ElementsAre(0));
}

TEST_F(PackFileTest, HoldsNoPacks) {
  save_packs(PackFile{}, path_);
  const PackFile file = load_packs(path_);
  EXPECT_EQ(file.packs.size(), 0U);
  EXPECT_TRUE(file.packs.samples.empty());
}

TEST_F(PackFileTest, LargeFilesComeBackWhole) {
  const CounterRng rng(5);
  PackFile file;
  file.num_samples = 200'000;
  std::vector<std::uint32_t> pack;
  for (std::uint32_t sample = 0; sample < file.num_samples; ++sample) {
    pack.push_back(sample);
    if (rng.below(sample, 4) != 0) continue;
    file.packs.add(pack);
    pack.clear();
  }
  file.packs.add(pack);
  save_packs(file, path_);
  const PackFile loaded = load_packs(path_);
  EXPECT_EQ(loaded.packs.offsets, file.packs.offsets);
  EXPECT_EQ(loaded.packs.samples, file.packs.samples);
}

TEST_F(PackFileTest, EveryCutIsNoticed) {
  const std::string bytes = saved(three_packs());
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(refused(bytes.substr(0, size)), HasSubstr("packs.bin: ")) << size;
  }
  EXPECT_THAT(refused(bytes + std::string(8, '\0')), HasSubstr("cut short or damaged"));
}

TEST_F(PackFileTest, EveryChangedByteIsNoticed) {
  const std::string bytes = saved(three_packs());
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ 0x10);
    EXPECT_THAT(refused(changed),
                AnyOf(HasSubstr("is no pack file"), HasSubstr("is of version"),
                      HasSubstr("cut short or damaged"), HasSubstr("checksum is wrong")))
        << at;
  }
}

TEST_F(PackFileTest, RefusesOtherFilesAndVersions) {
  EXPECT_THAT(refused("vision,tokens\n"), HasSubstr("is no pack file"));
  EXPECT_THAT(refused(""), HasSubstr("is no pack file"));
  EXPECT_THAT(refused(std::string("GBPACKS\0", 8)), HasSubstr("less than its header"));
  std::string newer = saved(three_packs());
  newer[8] = 2;
  EXPECT_THAT(refused(newer), HasSubstr("is of version 2"));
  EXPECT_THAT(message_of<UserError>([&] { load_packs(folder_ / "none.bin"); }),
              HasSubstr("none.bin: cannot open"));
}

TEST_F(PackFileTest, RefusesPacksThatCannotBe) {
  PackFile file = three_packs();
  file.num_samples = 5;  // sample 5 is in a pack
  EXPECT_THAT(refused(saved(file)), HasSubstr("pack 2 holds sample 5, but the data set has 5"));
  file = three_packs();
  file.packs.offsets = {0, 4, 3, 6};
  EXPECT_THAT(refused(saved(file)), HasSubstr("not ascending"));
  file = three_packs();
  file.packs_per_slot = 3;
  EXPECT_THAT(refused(saved(file)), HasSubstr("not slots of 3"));
  file.packs_per_slot = 0;
  EXPECT_THAT(refused(saved(file)), HasSubstr("not slots of 0"));
}

TEST_F(PackFileTest, SaysWhichFileCannotBeWritten) {
  EXPECT_THAT(message_of<UserError>([&] { save_packs({}, folder_ / "none" / "packs.bin"); }),
              HasSubstr("packs.bin"));
}

}  // namespace
}  // namespace gimbal
