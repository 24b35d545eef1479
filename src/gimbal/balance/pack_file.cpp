#include "gimbal/balance/pack_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/base/mapped_file.h"
#include "gimbal/base/sha256.h"

namespace gimbal {
namespace {

static_assert(std::endian::native == std::endian::little, "the file is little-endian");

constexpr std::array<char, 8> kMagic{'G', 'B', 'P', 'A', 'C', 'K', 'S', '\0'};
constexpr std::uint32_t kVersion = 1;

// The first bytes of the file, as they are. All arrays after it begin at a multiple of 8 bytes.
struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t header_bytes = 0;
  std::uint64_t num_packs = 0;
  std::uint64_t num_entries = 0;
  std::uint64_t num_samples = 0;
  std::uint64_t packs_per_step = 0;
  std::uint64_t packs_per_slot = 0;
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;
  std::array<char, 64> sha256{};  // of all other bytes of the file, in hexadecimal digits
};
static_assert(sizeof(Header) == 136);

std::string digest(const Header& header, std::string_view arrays) {
  Sha256 sha;
  sha.update(&header, offsetof(Header, sha256));
  sha.update(arrays.data(), arrays.size());
  return sha.finish();
}

std::uint64_t padded_to_8(std::uint64_t bytes) { return (bytes + 7) / 8 * 8; }

void check_packs(const PackFile& file, const std::string& name) {
  const auto& offsets = file.packs.offsets;
  GIMBAL_USER_CHECK(offsets.front() == 0 && offsets.back() == file.packs.samples.size() &&
                        std::is_sorted(offsets.begin(), offsets.end()),
                    name, ": the bounds of its packs are not ascending; make the file again");
  for (std::size_t p = 0; p < file.packs.size(); ++p) {
    for (const std::uint32_t sample : file.packs[p]) {
      GIMBAL_USER_CHECK(sample < file.num_samples, name, ": pack ", p, " holds sample ", sample,
                        ", but the data set has ", file.num_samples, "; make the file again");
    }
  }
  GIMBAL_USER_CHECK(file.packs_per_slot > 0 && file.packs_per_step > 0 &&
                        file.packs_per_step % file.packs_per_slot == 0,
                    name, ": ", file.packs_per_step, " packs per step are not slots of ",
                    file.packs_per_slot, "; make the file again");
}

}  // namespace

void save_packs(const PackFile& file, const std::filesystem::path& path) {
  Header header;
  header.header_bytes = sizeof(Header);
  header.num_packs = file.packs.size();
  header.num_entries = file.packs.samples.size();
  header.num_samples = file.num_samples;
  header.packs_per_step = file.packs_per_step;
  header.packs_per_slot = file.packs_per_slot;
  header.seed = file.seed;
  header.epoch = file.epoch;

  const std::size_t offset_bytes = file.packs.offsets.size() * sizeof(std::uint64_t);
  const std::size_t sample_bytes = file.packs.samples.size() * sizeof(std::uint32_t);
  std::string content(sizeof(Header) + offset_bytes + padded_to_8(sample_bytes), '\0');
  std::memcpy(content.data() + sizeof(Header), file.packs.offsets.data(), offset_bytes);
  if (sample_bytes > 0) {
    std::memcpy(content.data() + sizeof(Header) + offset_bytes, file.packs.samples.data(),
                sample_bytes);
  }
  const std::string hex = digest(header, std::string_view(content).substr(sizeof(Header)));
  std::copy(hex.begin(), hex.end(), header.sha256.begin());
  std::memcpy(content.data(), &header, sizeof(Header));
  write_file_atomic(path, content);
}

PackFile load_packs(const std::filesystem::path& path) {
  const std::string name = path.string();
  const MappedFile mapped(path);
  const std::string_view bytes(reinterpret_cast<const char*>(mapped.bytes().data()),
                               mapped.bytes().size());
  Header header;
  GIMBAL_USER_CHECK(bytes.starts_with(std::string_view(kMagic.data(), kMagic.size())), name,
                    ": is no pack file; make one with gimbal balance --packs");
  GIMBAL_USER_CHECK(bytes.size() >= sizeof(Header), name, ": has ", bytes.size(),
                    " bytes, less than its header of ", sizeof(Header),
                    "; it is cut short, make it again");
  std::memcpy(&header, bytes.data(), sizeof(Header));
  GIMBAL_USER_CHECK(header.version == kVersion && header.header_bytes == sizeof(Header), name,
                    ": is of version ", header.version, " with a header of ", header.header_bytes,
                    " bytes; this program reads version ", kVersion, " (", sizeof(Header),
                    "); make it again with gimbal balance --packs");

  // Divisions before products, so that no damaged number can overflow.
  const std::string_view arrays = bytes.substr(sizeof(Header));
  const std::uint64_t words = arrays.size() / 8;
  const bool fits =
      header.num_packs < words && header.num_entries <= 2 * words &&
      (header.num_packs + 1) * 8 + padded_to_8(header.num_entries * 4) == arrays.size();
  GIMBAL_USER_CHECK(fits, name, ": has ", bytes.size(), " bytes, which is not right for ",
                    header.num_packs, " packs of ", header.num_entries,
                    " samples; it is cut short or damaged, make it again");
  GIMBAL_USER_CHECK(
      digest(header, arrays) == std::string_view(header.sha256.data(), header.sha256.size()), name,
      ": its checksum is wrong; it is damaged, make it again");

  PackFile file;
  file.num_samples = header.num_samples;
  file.packs_per_step = header.packs_per_step;
  file.packs_per_slot = header.packs_per_slot;
  file.seed = header.seed;
  file.epoch = header.epoch;
  file.packs.offsets.resize(header.num_packs + 1);
  file.packs.samples.resize(header.num_entries);
  const std::size_t offset_bytes = file.packs.offsets.size() * 8;
  std::memcpy(file.packs.offsets.data(), arrays.data(), offset_bytes);
  if (header.num_entries > 0) {
    std::memcpy(file.packs.samples.data(), arrays.data() + offset_bytes, header.num_entries * 4);
  }
  check_packs(file, name);
  return file;
}

}  // namespace gimbal
