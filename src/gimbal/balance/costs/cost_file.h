// Where the streams' cost coefficients come from: a file, a model's configuration, or the caps.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "gimbal/balance/sizes.h"

namespace gimbal {

/// From a JSON file {"streams": {"tokens": {"per_row": 1.0, "per_pair": 1e-5}, ..}}; per_pair is 0
/// when absent. One entry per name in `streams`; the file may have more (a profile serves several
/// data sets). Throws UserError that names file, stream and key for a missing stream or per_row, an
/// unknown key, and what is not a finite number of at least 0.
std::vector<StreamCost> read_cost_file(const std::filesystem::path& file,
                                       std::span<const std::string> streams);

/// Forward FLOPs from a Hugging Face config.json (or the folder that holds one); a multiply-add is
/// 2. Backward is twice that in every phase of a model that trains whole, so the ratios hold for
/// training. Norms, activations, biases and lookups count nothing. Known are `qwen2`, `qwen3`,
/// `llama`, `internlm2`, and with one of these as text part `internvl` and `internvl_chat`. Absent
/// keys have transformers' defaults.
///
/// Text (streams `tokens`, `text`), with D width, N heads and K key-value heads of width H, F
/// feed-forward width, V vocabulary, L layers:
///     per_row  = L * 2 * (D*N*H + 2*D*K*H + N*H*D + 3*D*F) + head_share * 2*D*V
///     per_pair = L * 2*N*H
/// (query, key, value and output projection; gate, up and down; scores and weighted values, each
/// 2*N*H per pair, for the causal half of the pairs).
///
/// Vision (streams `vision`, `tiles`, `images`: per tile; `patches`: per patch of a tile), with P
/// patches of C*p*p values, S = P + 1 rows, and U = P * ratio^2 text rows a tile:
///     embed     = 2 * P * (C*p*p) * D
///     layers    = L * (2 * S * (4*D*D + 2*D*F) + 4 * S*S*D)
///     projector = 2 * U * (D/ratio^2 * T + T*T),  T the text part's width
///     per_row   = embed + layers + projector  (/ P for patches),  per_pair = 0
/// Attention stays inside a tile, so it is in per_row.
///
/// `head_share`: the share of the text rows that the vocabulary projection works on, in [0, 1]; 1
/// as in transformers, less in trainers that compute it for rows with a loss only.
///
/// Throws UserError for an unknown stream name (it needs explicit costs), a vision stream of a text
/// model, an unknown model type, and sizes below 1.
std::vector<StreamCost> model_costs(const std::filesystem::path& config,
                                    std::span<const std::string> streams, double head_share = 1.0);

/// When nothing is known: per_pair 0, and per_row 1 / cap, so that each full stream weighs the
/// same. For a stream without a cap, the rows that it is expected to have in a full pack take the
/// place of the cap: mean rows times the samples of mean size that reach the first cap (of rows or
/// samples). All 1 when there is no such cap. Throws UserError for a cap on cost, which would have
/// no unit.
std::vector<StreamCost> default_costs(const PackCaps& caps, const SampleSizes& sizes);

}  // namespace gimbal
