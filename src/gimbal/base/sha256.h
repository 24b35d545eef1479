// SHA-256 (FIPS 180-4): fingerprints of files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace gimbal {

class Sha256 {
 public:
  /// `portable`: leaves the processor's SHA instructions unused. The digest is the same.
  explicit Sha256(bool portable = false) : portable_(portable) {}
  void update(const void* data, std::size_t size_bytes);
  /// The digest as 64 lower-case hexadecimal digits. Ends the use of the object.
  std::string finish();

 private:
  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> block_{};
  std::uint64_t total_bytes_ = 0;
  bool portable_;
};

std::string sha256_of(std::string_view text);

/// Of the file's content. Throws UserError when it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace gimbal
