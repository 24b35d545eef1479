// Packing of samples whose sizes are known only as they arrive.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/screen.h"
#include "gimbal/balance/sizes.h"
#include "gimbal/balance/stream/stream_state.h"

namespace gimbal {

struct StreamPackerOptions {
  int num_streams = 1;
  std::vector<std::string> names;  // per stream, for messages; may be empty
  PackCaps caps;
  std::vector<StreamCost> costs;  // per stream
  std::uint64_t packs_per_slot = 1;
  /// Samples that are held back to choose from; several times what a slot holds. Seven eighths of
  /// it are packed together (at least packs_per_slot), and the first slot is given as soon as they
  /// are there. A sample leaves at the latest when `window` others that came after it have.
  std::uint64_t window = 4096;
  OversizePolicy oversize = OversizePolicy::kError;
  std::uint64_t seed = 0;
};

/// Feed with `push`, take with `next_slot`, end with `finish`. The same pushes give the same slots,
/// whenever they are taken; every id leaves exactly once (or is among the rejected). Taken as soon
/// as they are there, slots keep what is held at `window` samples at most (packs_per_slot, if that
/// is more). A pack is above a cap only when it is one sample of OversizePolicy::kAlone.
class StreamPacker {
 public:
  /// Throws UserError for options that cannot work.
  explicit StreamPacker(StreamPackerOptions options);
  StreamPacker(StreamPacker&&) = default;
  StreamPacker& operator=(StreamPacker&&) = default;

  /// Ids are the caller's and need not differ. Throws UserError for a wrong number of rows, after
  /// `finish`, and for a sample that exceeds a cap under OversizePolicy::kError; nothing is changed
  /// then.
  void push(std::uint64_t id, std::span<const std::uint32_t> rows);
  /// No more samples come: next_slot gives all that is left.
  void finish();
  /// The next slot, or nothing when more samples are needed first (or all is given).
  std::optional<StreamSlot> next_slot();

  /// Pushed samples; == samples_out + samples_rejected + samples_held.
  std::uint64_t samples_in() const { return state_.samples_in; }
  std::uint64_t samples_out() const { return state_.samples_out; }
  std::uint64_t samples_rejected() const { return state_.samples_rejected; }
  std::uint64_t samples_held() const { return state_.held(); }
  /// Ids of rejected samples since the last call, with reasons.
  std::vector<std::pair<std::uint64_t, std::string>> take_rejected();

  /// Everything that is needed to go on exactly: the held samples and counters. `load` throws
  /// UserError for a state of other options or a damaged one, and changes nothing then.
  std::string save() const;
  void load(const std::string& state);

 private:
  void plan();
  std::uint64_t fingerprint() const;

  StreamPackerOptions options_;
  std::vector<std::uint32_t> probe_rows_;  // of the sample that is being pushed
  PackLimits probe_;
  std::uint64_t batch_;  // samples that are packed together
  StreamState state_;
};

}  // namespace gimbal
