#include "gimbal/balance/pack/local_search.h"

#include <algorithm>

namespace gimbal {
namespace {

class PackEmptier {
 public:
  PackEmptier(OpenPacks& packs, const LocalSearchOptions& options)
      : packs_(packs),
        min_gain_(
            1 + static_cast<std::uint64_t>(options.min_gain * static_cast<double>(packs.whole()))),
        work_(options.work) {}

  // Returns the work that is left.
  std::uint64_t run(std::uint32_t attempts) {
    std::vector<std::uint32_t> tried;
    while (attempts-- > 0 && !packs_.shelf().empty() && work_ > 0) {
      const std::uint32_t thin = packs_.shelf().back().pack;
      packs_.unshelve(thin);
      empty(thin);
      tried.push_back(thin);
    }
    for (const std::uint32_t pack : tried) packs_.shelve(pack);
    return work_;
  }

 private:
  static constexpr std::uint32_t kNone = OpenPacks::kNone;
  using Pair = OpenPacks::Pair;
  struct Swap {
    Pair out{kNone, kNone};  // of the thin pack
    Pair in{kNone, kNone};   // of the other
    std::uint64_t gain = 0;
  };

  void empty(std::uint32_t thin) {
    for (;;) {
      move_out(thin);
      if (packs_.first_in(thin) == kNone) return;
      Swap best;
      best.gain = min_gain_ - 1;
      find_swap(thin, best, false);
      if (best.out.x == kNone) find_swap(thin, best, true);
      if (best.out.x == kNone) return;
      exchange(thin, best);
    }
  }

  void move_out(std::uint32_t thin) {
    for (std::uint32_t item = packs_.first_in(thin); item != kNone;) {
      const std::uint32_t next = packs_.next_in(item);
      const std::uint32_t to = packs_.best_fit(item);
      if (to != kNone) {
        packs_.unshelve(to);
        packs_.take(item);
        packs_.add(item, to);
        packs_.shelve(to);
      }
      item = next;
    }
  }

  // A swap gains at most the room of the other pack: thinnest first, until no room is larger than
  // the best gain.
  void find_swap(std::uint32_t thin, Swap& best, bool pairs) {
    const auto& shelf = packs_.shelf();
    for (auto gap = shelf.rbegin(); gap != shelf.rend() && gap->slack > best.gain; ++gap) {
      for (std::uint32_t x = packs_.first_in(thin); x != kNone; x = packs_.next_in(x)) {
        if (work_ == 0) return;
        if (!pairs) {
          swap_one(thin, {x, kNone}, *gap, best);
        } else {
          swap_against_two(thin, x, *gap, best);
          for (std::uint32_t z = packs_.next_in(x); z != kNone; z = packs_.next_in(z)) {
            swap_one(thin, {x, z}, *gap, best);
          }
        }
      }
    }
  }

  std::uint64_t size(Pair pair) const {
    return packs_.size(pair.x) + (pair.y == kNone ? 0 : packs_.size(pair.y));
  }

  void swap_one(std::uint32_t thin, Pair out, const OpenPacks::Gap& gap, Swap& best) {
    const std::uint64_t out_size = size(out);
    if (out_size <= best.gain) return;
    for (std::uint32_t y = packs_.first_in(gap.pack); y != kNone; y = packs_.next_in(y)) {
      spend(1);
      consider(thin, out, out_size, {y, kNone}, gap, best);
    }
  }

  void swap_against_two(std::uint32_t thin, std::uint32_t x, const OpenPacks::Gap& gap,
                        Swap& best) {
    const std::uint64_t out_size = packs_.size(x);
    if (out_size <= best.gain) return;
    for (std::uint32_t y = packs_.first_in(gap.pack); y != kNone; y = packs_.next_in(y)) {
      spend(1);
      if (packs_.size(y) + best.gain >= out_size) continue;
      for (std::uint32_t z = packs_.next_in(y); z != kNone; z = packs_.next_in(z)) {
        spend(1);
        consider(thin, {x, kNone}, out_size, {y, z}, gap, best);
      }
    }
  }

  void consider(std::uint32_t thin, Pair out, std::uint64_t out_size, Pair in,
                const OpenPacks::Gap& gap, Swap& best) {
    const std::uint64_t in_size = size(in);
    if (out_size <= in_size + best.gain || out_size - in_size > gap.slack) return;
    if (!packs_.fits_after(gap.pack, out, in) || !packs_.fits_after(thin, in, out)) return;
    best = {out, in, out_size - in_size};
  }

  void exchange(std::uint32_t thin, const Swap& swap) {
    const std::uint32_t other = packs_.pack_of(swap.in.x);
    packs_.unshelve(other);
    for (const Pair& pair : {swap.out, swap.in}) {
      packs_.take(pair.x);
      if (pair.y != kNone) packs_.take(pair.y);
    }
    for (const std::uint32_t item : {swap.out.x, swap.out.y}) {
      if (item != kNone) packs_.add(item, other);
    }
    for (const std::uint32_t item : {swap.in.x, swap.in.y}) {
      if (item != kNone) packs_.add(item, thin);
    }
    packs_.shelve(other);
  }

  void spend(std::uint64_t work) { work_ -= std::min(work, work_); }

  OpenPacks& packs_;
  const std::uint64_t min_gain_;
  std::uint64_t work_;
};

}  // namespace

std::uint64_t empty_thin_packs(OpenPacks& packs, LocalSearchOptions options) {
  return options.work - PackEmptier(packs, options).run(options.attempts);
}

}  // namespace gimbal
