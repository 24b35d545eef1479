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

namespace gimbal {

/// One micro-batch on one rank. Samples are segments of one varlen sequence; nothing is padded.
struct Batch {
  std::vector<std::uint32_t> samples;
  at::Tensor token_ids_T;                     // int64
  at::Tensor positions_T;                     // int64, restart at each sample
  std::vector<std::int64_t> text_cu_seqlens;  // host, num samples + 1
  at::Tensor pixels_ICYX;                     // float32; zero tiles when no sample has a picture
  at::Tensor image_rows_R;    // int64: rows of T that visual rows fill, in the order of the tiles
  at::Tensor loss_rows_Q;     // int64: rows of T whose next token is a target
  at::Tensor targets_Q;       // int64
  at::Tensor loss_weights_Q;  // float32

  std::int64_t num_tokens() const { return text_cu_seqlens.empty() ? 0 : text_cu_seqlens.back(); }
};

/// Reads, decodes and resizes the media of the samples and joins them. An empty `samples` gives a
/// batch of zero rows. Throws UserError that names the sample and the file.
Batch collate(const Dataset& dataset, const ImageProcessor& processor,
              std::span<const std::uint32_t> samples);

/// Only the first `num_tokens[i]` tokens of each sample and the media that lie in them: prompts for
/// generation.
Batch collate_prompts(const Dataset& dataset, const ImageProcessor& processor,
                      std::span<const std::uint32_t> samples,
                      std::span<const std::uint32_t> num_tokens);

/// The same batch with its tensors on `device`.
Batch to_device(const Batch& batch, const at::Device& device);

}  // namespace gimbal
