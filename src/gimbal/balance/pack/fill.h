// Two ways to fill open packs from nothing: best fit, and random filling with a fitted end.
#pragma once

#include <cstdint>
#include <vector>

#include "gimbal/balance/pack/open_packs.h"

namespace gimbal {

/// Best fit: each item into the fullest pack that has room. With `decreasing`, larger items come
/// first; sizes within a 32nd of a pack count as equal and keep their order, so that samples of
/// rare sizes do not meet the same companions in every order.
void fill_best_fit(OpenPacks& packs, bool decreasing);

/// Fills one pack after the other. The next items of the order go in until one does not fit (after
/// passing over `passes` that do not, all among the next `reach`); the last that went in then makes
/// way for the one or two of the next `reach` items that fill the pack best. The random part keeps
/// what is left alike to what was given, which is where best fit decreasing fails: it uses up the
/// small items too early.
void fill_fitted(OpenPacks& packs, std::uint32_t passes, std::uint32_t reach);

/// One of the ways to fill packs. No way is best for all mixes: what pays is to finish each pack
/// well (fitted) where sizes are many, to take the largest first where few sizes decide, and to
/// weigh the scarcest limit alone (sharpness, see FillScale::sharpened) where one is much scarcer
/// than the others.
struct FillWay {
  enum Kind { kFitted, kBestFit, kBestFitDecreasing } kind;
  std::uint32_t passes;  // of fill_fitted
  int sharpness;
};

/// Fills the packs in this way. `reach` is fill_fitted's.
void fill_in_way(OpenPacks& packs, const FillWay& way, std::uint32_t reach);

}  // namespace gimbal
