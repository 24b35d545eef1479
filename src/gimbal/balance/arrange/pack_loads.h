// What packs weigh, in small whole numbers: the form in which packs are compared and made alike.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/balance/packs.h"
#include "gimbal/balance/sizes.h"

namespace gimbal {

/// Weighs samples in every direction in which the packs of a slot should be alike: the rows of each
/// stream, the whole cost, and the cost of each stream where rows and whole cost do not give it. A
/// mean pack weighs about 2^14 in each. Whole numbers decide, so that every machine finds the same
/// order.
class LoadScale {
 public:
  LoadScale(const Packs& packs, const SampleSizes& sizes, std::span<const StreamCost> costs);

  std::size_t dims() const { return dims_; }
  /// The direction that is the whole cost.
  std::size_t cost_dim() const { return cost_dim_; }
  /// Writes the dims() loads of a sample.
  void weigh(std::uint32_t sample, std::uint32_t* loads) const;
  /// The same for each of `samples`: [samples * dims].
  void weigh_all(std::span<const std::uint32_t> samples, std::uint32_t* loads) const;

 private:
  struct Stream {
    int stream;
    std::size_t rows_dim;  // kNone: no rows
    double rows;           // loads per row in rows_dim
    double cost_per_row;   // loads in the dimension of the whole cost
    double cost_per_pair;
    std::size_t own_dim;  // of the stream's own cost; kNone: it has none
    double own_per_row;
    double own_per_pair;
  };
  static constexpr std::size_t kNone = ~std::size_t{0};

  SampleSizes sizes_;
  std::vector<Stream> streams_;
  std::size_t dims_ = 0;
  std::size_t cost_dim_ = 0;
};

/// The loads of packs, [packs * dims]: the sums of their samples' loads, modulo 2^32.
std::vector<std::uint32_t> weigh_packs(const Packs& packs, const LoadScale& scale);

}  // namespace gimbal
