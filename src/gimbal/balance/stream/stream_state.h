// What a stream packer remembers, and its form as bytes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gimbal {

/// One slot: packs of ids, alike in cost. Only the last slot of a stream may have fewer packs than
/// the others.
using StreamSlot = std::vector<std::vector<std::uint64_t>>;

struct StreamState {
  std::uint64_t samples_in = 0;
  std::uint64_t samples_out = 0;
  std::uint64_t samples_rejected = 0;
  std::uint64_t plans = 0;  // batches packed so far
  std::uint64_t way = 0;    // in which batches are packed
  bool finished = false;
  // The samples that are not planned yet, in the order in which they came.
  std::vector<std::uint64_t> ids;
  std::vector<std::uint64_t> overtaken;  // later samples that have left before it
  std::vector<std::uint8_t> alone;       // 1: a pack of its own
  std::vector<std::uint32_t> rows;       // [samples * streams]
  std::vector<StreamSlot> planned;       // slots to give, the next one last
  std::uint64_t planned_samples = 0;
  std::vector<std::pair<std::uint64_t, std::string>> rejected;  // not taken yet

  std::uint64_t held() const { return ids.size() + planned_samples; }

  /// The state as bytes: version, `fingerprint` of the options, fields, checksum.
  std::string to_bytes(std::uint64_t fingerprint) const;
  /// Throws UserError for bytes that are no state, of another version or fingerprint, or damaged.
  static StreamState from_bytes(const std::string& bytes, std::uint64_t fingerprint);
};

}  // namespace gimbal
