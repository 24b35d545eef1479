// Choosing a cap: the one with the least predicted time per sample.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gimbal/balance/sizes.h"

namespace gimbal {

struct CapSearch {
  int stream = 0;                 // whose cap is sought; the caps of the others are given
  PackCaps caps;                  // entry `stream` is ignored
  std::vector<StreamCost> costs;  // per stream
  /// Fixed cost of a pack (launches, its share of the step), in units of cost. Absent: 2 % of the
  /// cost of a pack at the closed-form cap.
  std::optional<double> pack_overhead;
  /// Phases run on different ranks (pipeline stages): a pack then takes as long as its most loaded
  /// phase. False: phases run one after another on each rank.
  bool phases_in_parallel = true;
  std::uint64_t ranks = 8;
  /// A memory budget: sum over streams of cap * bytes_per_row <= memory_bytes; 0 = none. What a
  /// candidate leaves is given to the other streams in proportion to their mean rows; each gets at
  /// least its largest sample and at most its cap in `caps`, where there is one. A stream of 0
  /// bytes per row keeps the cap that it has.
  double memory_bytes = 0;
  std::vector<double> bytes_per_row;  // per stream; read only with a memory budget
  std::uint64_t seed = 0;
};

/// One candidate of the sweep.
struct CapPoint {
  PackCaps caps;
  double cost_per_sample = 0;  // predicted time of a rank per sample, in units of cost
  double error = 0;            // its spread over resamplings: half of max - min
  double packs = 0;            // predicted for all samples
  double fill = 0;             // of the sought stream
};

struct CapChoice {
  PackCaps caps;                  // with the chosen cap
  std::uint64_t closed_form = 0;  // the start: see choose_cap
  double pack_overhead = 0;       // as given, or the default
  std::vector<CapPoint> curve;    // ascending by the sought cap
};

/// The smallest cap within 0.1 % of the least predicted time per sample.
///
/// Candidates start at the largest sample (no smaller cap can hold it) and end where the cap no
/// longer binds: at the fullest pack that the other limits allow. Up to 48 caps are all tried;
/// of a wider range every cap that is 1/8 above the last, then twice a finer grid around the best.
/// The closed form, cut to that range, is always among them:
///     cap = mean(stream) * min over the other limits of cap_j / mean(demand_j)
/// (with a memory budget M also min(.., M / sum_j mean(rows_j) * bytes_j)): all limits are then
/// reached at the same number of samples.
///
/// Prediction: three resamplings of at most 2,000 samples, the same ones for every candidate, are
/// packed (quick_packs). With C_k(p) the cost of stream k in pack p, <> the mean over the packs
/// and o the overhead, a pack takes
///     T(p) = o + sum_k C_k(p)                                  phases one after another
///     T(p) = o + (sum_k <C_k>) * max_k C_k(p) / <C_k>          phases in parallel,
/// the latter because each phase has the share of the ranks that its average cost asks for; this is
/// the steady state of a pipeline whose neighbouring packs are alike. The packs of a slot are not
/// random: they are consecutive in a sorted order (arrange_packs). With Q the quantile function of
/// T and S = packs / ranks slots, a slot takes the mean of Q(j / S), j = 1 .. S: nearly <T> when
/// there are many slots. The predicted time per sample is that times packs / samples. So small caps
/// pay overhead, and phases of unlike load; large ones leave the sought stream's phase idle in some
/// packs and overloaded in others, or take memory from the other streams. Without phases in
/// parallel, memory budget or overhead nothing speaks against a small cap.
/// The incomplete last slot and the fewer left-overs of a larger data set are not counted.
///
/// Samples that exceed a cap in `caps` alone are left out: screen_samples decides about them.
/// Throws UserError when nothing can be chosen: no samples, no other cap and no memory budget,
/// capped streams without rows, a sample that exceeds the budget, negative numbers or NaN.
CapChoice choose_cap(const SampleSizes& sizes, const CapSearch& search);

/// Whether the data and the other limits allow a choice; choose_cap then throws nothing. Throws
/// UserError for numbers in `search` that are wrong whatever the data are: negative ones or NaN.
bool can_choose_cap(const SampleSizes& sizes, const CapSearch& search);

}  // namespace gimbal
