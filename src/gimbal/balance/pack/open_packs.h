// Packs under construction: what each holds, the room that it has left, and the packs sorted by
// that room. The ground on which the packing heuristics work.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "gimbal/balance/limits.h"
#include "gimbal/balance/packs.h"

namespace gimbal {

/// One number for how much of a pack some demands are, so that packs can be compared. A limit
/// weighs as much as it is in demand: a gap in the scarcest is the dearest. Whole numbers, so that
/// the order of additions cannot change a comparison. Monotone: what fits in every limit is not
/// larger.
class FillScale {
 public:
  /// Sums the demands of `order`. Throws InternalError for an entry that does not fit alone.
  FillScale(const PackLimits& limits, std::span<const std::uint32_t> order);
  /// The same with weights by the `power`th power of the demand: where one limit decides, gaps in
  /// the others cost nothing.
  FillScale sharpened(int power) const;

  std::size_t num_limits() const { return caps_.size(); }
  /// Caps above the sum of all demands limit nothing and are lowered to it.
  std::span<const std::uint64_t> caps() const { return caps_; }
  std::uint64_t size(const std::uint64_t* demands) const {
    std::uint64_t sum = 0;
    for (std::size_t l = 0; l < caps_.size(); ++l) sum += (demands[l] >> shift_[l]) * weight_[l];
    return sum;
  }
  /// Total demand in packs, of the limit where it is largest.
  double volume() const { return *std::max_element(packs_.begin(), packs_.end()); }
  /// Size of an empty pack's room, about 2^52.
  std::uint64_t whole() const { return whole_; }

 private:
  void set_weights(int power);

  std::vector<double> packs_;  // demand in packs, per limit
  std::vector<std::uint64_t> caps_;
  std::vector<std::uint64_t> weight_;  // of 2^shift of demand
  std::vector<int> shift_;             // for caps of 2^32 and more
  std::uint64_t whole_ = 0;
};

/// Items 0 .. n-1 (the loaded samples) and packs 0 .. m-1. An item is in one pack or in none. Packs
/// are emptied, never removed; an empty one is opened again before a new one is made. Packs on the
/// `shelf` are found by best_fit; heuristics take a pack off the shelf while they work on it.
class OpenPacks {
 public:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  struct Gap {
    std::uint64_t slack;
    std::uint32_t pack;
    bool operator<(const Gap& other) const {
      return slack != other.slack ? slack < other.slack : pack < other.pack;
    }
  };

  OpenPacks(const PackLimits& limits, const FillScale& scale);

  /// Forgets all and takes `samples` as items that are in no pack.
  void load(std::span<const std::uint32_t> samples);
  /// Takes every item out of its pack and forgets the packs.
  void clear();

  std::uint32_t num_items() const { return static_cast<std::uint32_t>(samples_.size()); }
  std::uint32_t num_packs() const { return static_cast<std::uint32_t>(first_.size()); }
  std::uint64_t whole() const { return scale_.whole(); }
  std::uint64_t size(std::uint32_t item) const { return size_[item]; }
  std::uint64_t slack(std::uint32_t pack) const { return slack_[pack]; }
  /// The items of a pack: first_in, then next_in until kNone.
  std::uint32_t first_in(std::uint32_t pack) const { return first_[pack]; }
  std::uint32_t next_in(std::uint32_t item) const { return next_[item]; }
  std::uint32_t pack_of(std::uint32_t item) const { return pack_[item]; }

  bool fits(std::uint32_t item, std::uint32_t pack) const {
    const std::uint64_t* demand = demand_.data() + item * limits_;
    const std::uint64_t* room = room_.data() + pack * limits_;
    for (std::size_t l = 0; l < limits_; ++l) {
      if (room[l] < demand[l]) return false;
    }
    return true;
  }
  bool fit_together(std::uint32_t x, std::uint32_t y, std::uint32_t pack) const {
    return fits_after(pack, {x, y}, {kNone, kNone});
  }
  /// Whether the pack has room for `in` once `out` (items of it) has left. kNone stands for no
  /// item.
  struct Pair {
    std::uint32_t x;
    std::uint32_t y;
  };
  bool fits_after(std::uint32_t pack, Pair in, Pair out) const {
    for (std::size_t l = 0; l < limits_; ++l) {
      if (room_[pack * limits_ + l] + demand(out.x, l) + demand(out.y, l) <
          demand(in.x, l) + demand(in.y, l)) {
        return false;
      }
    }
    return true;
  }

  /// An empty pack, off the shelf.
  std::uint32_t open();
  /// Moves items; the packs concerned are off the shelf, or unshelve/shelve enclose the change.
  void add(std::uint32_t item, std::uint32_t pack);
  void take(std::uint32_t item);

  void shelve(std::uint32_t pack);
  void unshelve(std::uint32_t pack);
  /// The shelved packs, fullest first.
  const std::vector<Gap>& shelf() const { return shelf_; }
  /// The fullest shelved pack that has room for the item; kNone if none has.
  std::uint32_t best_fit(std::uint32_t item) const;
  /// Puts the item into the best-fitting shelved pack, or into a new one; shelved afterwards.
  void place(std::uint32_t item);
  /// Sorts all packs that hold something onto the shelf.
  void shelve_all();

  /// Adds the pack's samples to `out`.
  void append_samples(std::uint32_t pack, std::vector<std::uint32_t>& out) const;

 private:
  std::uint64_t demand(std::uint32_t item, std::size_t l) const {
    return item == kNone ? 0 : demand_[item * limits_ + l];
  }

  const PackLimits& pack_limits_;
  const FillScale& scale_;
  std::size_t limits_;
  std::vector<std::uint32_t> samples_;
  std::vector<std::uint64_t> demand_;  // [item, limit]
  std::vector<std::uint64_t> size_;
  std::vector<std::uint32_t> pack_, next_, prev_;  // per item
  std::vector<std::uint64_t> room_;                // [pack, limit]
  std::vector<std::uint64_t> slack_;
  std::vector<std::uint32_t> first_;
  std::vector<std::uint32_t> empty_;  // packs that can be opened again
  std::vector<Gap> shelf_;
};

}  // namespace gimbal
