#include "gimbal/base/sha256.h"

#include <gtest/gtest.h>

#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "unit/base/temp_folder.h"

namespace gimbal {
namespace {

// The examples that NIST publishes with FIPS 180-4.
TEST(Sha256, EqualsThePublishedExamples) {
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_of(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesGiveTheSameAsTheWhole) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (std::size_t size = 0; size <= text.size(); ++size) {
    Sha256 hash(/*portable=*/size % 2 == 0);
    for (std::size_t at = 0; at < size;) {
      const std::size_t piece = std::min(size - at, 1 + at % 67);
      hash.update(text.data() + at, piece);
      at += piece;
    }
    ASSERT_EQ(hash.finish(), sha256_of(text.substr(0, size))) << size;
  }
}

TEST(Sha256, TheProcessorsInstructionsGiveTheSame) {
  const std::string text(1000000, 'a');
  Sha256 portable(true), fast(false);
  portable.update(text.data(), text.size());
  fast.update(text.data(), text.size());
  const std::string digest = portable.finish();
  EXPECT_EQ(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  EXPECT_EQ(fast.finish(), digest);
}

TEST(Sha256, OfAFileIsOfItsContent) {
  const testing::TempFolder folder;
  write_file_atomic(folder / "a", "abc");
  EXPECT_EQ(sha256_of_file(folder / "a"), sha256_of("abc"));
  write_file_atomic(folder / "empty", "");
  EXPECT_EQ(sha256_of_file(folder / "empty"), sha256_of(""));
  EXPECT_THROW(sha256_of_file(folder / "missing"), UserError);
}

}  // namespace
}  // namespace gimbal
