// Packs as tensors: the first place where data becomes at::Tensor.
// Shapes: T packed tokens, I tiles, R visual rows in the text, Q loss rows, C Y X channels, rows,
// columns.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "gimbal/data/dataset.h"
#include "gimbal/tensor/image_processor.h"
#include "gimbal/tensor/tile_range.h"

namespace gimbal {

/// One micro-batch on one rank. Samples are segments of one varlen sequence; nothing is padded.
struct Batch {
  std::vector<std::uint32_t> samples;
  at::Tensor token_ids_T;                     // int64
  at::Tensor positions_T;                     // int64, restart at each sample
  std::vector<std::int64_t> text_cu_seqlens;  // host, num samples + 1
  std::int64_t num_tiles = 0;                 // I, of all samples
  std::int64_t first_tile = 0;                // of pixels_ICYX
  at::Tensor pixels_ICYX;     // float32: the tiles that this rank reads; undefined or [0, ..]: none
  at::Tensor image_rows_R;    // int64: rows of T that visual rows fill, in the order of the tiles
  at::Tensor loss_rows_Q;     // int64: rows of T whose next token is a target
  at::Tensor targets_Q;       // int64
  at::Tensor loss_weights_Q;  // float32
  // The same rows on the host, ascending: where the ranks that share a pack cut them.
  std::vector<std::int64_t> image_rows;
  std::vector<std::int64_t> loss_rows;

  std::int64_t num_tokens() const { return text_cu_seqlens.empty() ? 0 : text_cu_seqlens.back(); }
};

/// Reads, decodes and resizes the media of the samples and joins them. An empty `samples` gives a
/// batch of zero rows. Throws UserError that names the sample and the file.
/// `tiles`: which of them get their pixels. Pictures without such a tile are not opened; all counts
/// and rows are those of the whole batch.
Batch collate(const Dataset& dataset, const ImageProcessor& processor,
              std::span<const std::uint32_t> samples, const TileChoice& tiles = all_tiles);

/// Only the first `num_tokens[i]` tokens of each sample and the media that lie in them: prompts for
/// generation.
Batch collate_prompts(const Dataset& dataset, const ImageProcessor& processor,
                      std::span<const std::uint32_t> samples,
                      std::span<const std::uint32_t> num_tokens,
                      const TileChoice& tiles = all_tiles);

/// Fills image_rows and loss_rows from the tensors, which are on the CPU.
void keep_rows_on_host(Batch& batch);

/// The same batch with its tensors on `device`. From page-locked memory to an accelerator the
/// copies run beside the host, before what follows on the current stream; `batch` may go meanwhile.
Batch to_device(const Batch& batch, const at::Device& device);

/// A copy in page-locked host memory; only where torch has an accelerator.
Batch to_pinned(const Batch& batch);

}  // namespace gimbal
