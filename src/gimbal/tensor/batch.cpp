#include "gimbal/tensor/batch.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "gimbal/base/error.h"
#include "gimbal/base/file.h"
#include "gimbal/data/image.h"
#include "gimbal/tensor/compat.h"

namespace gimbal {
namespace {

// One sample of a batch that is being joined: the whole of it, or its first tokens.
struct BatchSegment {
  std::uint32_t sample = 0;
  std::span<const std::uint32_t> tokens;
  std::span<const std::uint32_t> media;
  std::int64_t tiles = 0;
  std::int64_t image_rows = 0;
};

at::Tensor to_tensor(const std::vector<std::int64_t>& values) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<std::int64_t>());
  return tensor;
}

// The segment of the first `num_tokens` tokens, with the media that lie in them.
BatchSegment make_segment(const Dataset& dataset, std::uint32_t sample, std::uint32_t num_tokens) {
  BatchSegment segment;
  segment.sample = sample;
  const auto all_tokens = dataset.tokens(sample);
  GIMBAL_CHECK_LE(num_tokens, all_tokens.size(), "tokens of ", dataset.describe_sample(sample));
  segment.tokens = all_tokens.first(num_tokens);
  const bool whole = num_tokens == all_tokens.size();

  const DatasetModelInfo& model = dataset.model();
  segment.image_rows =
      std::count_if(segment.tokens.begin(), segment.tokens.end(), [&](std::uint32_t token) {
        return static_cast<std::int64_t>(token) == model.image_token_id;
      });
  const auto refs = dataset.media_refs(sample);
  std::size_t num_media = 0;
  while (num_media < refs.size() &&
         (whole || segment.tiles * model.image_seq_length < segment.image_rows)) {
    segment.tiles += dataset.media(refs[num_media++]).rows;
  }
  segment.media = refs.first(num_media);
  const std::int64_t expected = segment.tiles * model.image_seq_length;
  if (!whole) {
    GIMBAL_CHECK(segment.image_rows == expected, "", dataset.describe_sample(sample),
                 ": a prompt of ", num_tokens, " tokens ends inside a picture");
  }
  GIMBAL_USER_CHECK(segment.image_rows == expected, dataset.describe_sample(sample), " has ",
                    segment.image_rows, " image tokens (id ", model.image_token_id,
                    "), but its pictures fill ", expected, " (", segment.tiles, " tiles of ",
                    model.image_seq_length, "). Run gimbal prepare again.");
  return segment;
}

void fill_tokens(const Dataset& dataset, const std::vector<BatchSegment>& segments, Batch& batch) {
  std::int64_t num_tokens = 0;
  std::int64_t num_image_rows = 0;
  batch.text_cu_seqlens = {0};
  for (const BatchSegment& segment : segments) {
    num_tokens += static_cast<std::int64_t>(segment.tokens.size());
    num_image_rows += segment.image_rows;
    batch.text_cu_seqlens.push_back(num_tokens);
  }
  batch.token_ids_T = at::empty({num_tokens}, at::kLong);
  batch.positions_T = at::empty({num_tokens}, at::kLong);
  batch.image_rows_R = at::empty({num_image_rows}, at::kLong);
  auto* token_ids = batch.token_ids_T.mutable_data_ptr<std::int64_t>();
  auto* positions = batch.positions_T.mutable_data_ptr<std::int64_t>();
  auto* image_rows = batch.image_rows_R.mutable_data_ptr<std::int64_t>();
  const DatasetModelInfo& model = dataset.model();
  std::int64_t row = 0;
  for (const BatchSegment& segment : segments) {
    for (std::size_t i = 0; i < segment.tokens.size(); ++i, ++row) {
      const auto token = static_cast<std::int64_t>(segment.tokens[i]);
      GIMBAL_USER_CHECK(model.vocab_size <= 0 || token < model.vocab_size,
                        dataset.describe_sample(segment.sample), ": token ", token, " at position ",
                        i, " is outside of the vocabulary of ", model.vocab_size,
                        ". Run gimbal prepare again.");
      token_ids[row] = token;
      positions[row] = static_cast<std::int64_t>(i);
      if (token == model.image_token_id) *image_rows++ = row;
    }
  }
}

void fill_loss(const Dataset& dataset, const std::vector<BatchSegment>& segments, bool with_loss,
               Batch& batch) {
  std::vector<std::int64_t> loss_rows;
  std::vector<std::int64_t> targets;
  for (std::size_t s = 0; with_loss && s < segments.size(); ++s) {
    const BatchSegment& segment = segments[s];
    const std::int64_t first_row = batch.text_cu_seqlens[s];
    const std::size_t before = targets.size();
    std::uint32_t previous_end = 1;  // position 0 has no predecessor that could predict it
    for (const LossSpan& span : dataset.loss_spans(segment.sample)) {
      GIMBAL_USER_CHECK(
          span.begin >= previous_end && span.begin < span.end && span.end <= segment.tokens.size(),
          dataset.describe_sample(segment.sample), ": loss span [", span.begin, ", ", span.end,
          ") must lie in [", previous_end, ", ", segment.tokens.size(),
          "). Run gimbal prepare again.");
      previous_end = span.end;
      for (std::uint32_t position = span.begin; position < span.end; ++position) {
        loss_rows.push_back(first_row + position - 1);
        targets.push_back(static_cast<std::int64_t>(segment.tokens[position]));
      }
    }
    const std::size_t expected = dataset.sample(segment.sample).num_loss_tokens;
    GIMBAL_USER_CHECK(targets.size() - before == expected, dataset.describe_sample(segment.sample),
                      ": its loss spans hold ", targets.size() - before,
                      " tokens, but the index says ", expected, ". Run gimbal prepare again.");
  }
  batch.loss_rows_Q = to_tensor(loss_rows);
  batch.targets_Q = to_tensor(targets);
  batch.loss_weights_Q = at::empty({static_cast<std::int64_t>(targets.size())}, at::kFloat);
  std::fill_n(batch.loss_weights_Q.mutable_data_ptr<float>(), targets.size(), 1.0F);
}

Image load_media(const Dataset& dataset, std::uint32_t item, const std::string& name) {
  if (dataset.media(item).storage == 1) return decode_image(dataset.media_blob(item), name);
  const std::string encoded = read_file(dataset.media_path(item));
  return decode_image(std::as_bytes(std::span(encoded)), name);
}

std::string media_name(const Dataset& dataset, std::uint32_t item) {
  const std::string path = dataset.media_path(item).string();
  return path.empty() ? concat("embedded picture ", item) : path;
}

// Every tile of `needed` is written once, to its place in one tensor.
void fill_pixels(const Dataset& dataset, const ImageProcessor& processor,
                 const std::vector<BatchSegment>& segments, TileRange needed, Batch& batch) {
  GIMBAL_CHECK(0 <= needed.begin && needed.begin <= needed.end && needed.end <= batch.num_tiles,
               "tiles [", needed.begin, ", ", needed.end, ") of ", batch.num_tiles);
  const ImageProcessorConfig& config = processor.config();
  batch.first_tile = needed.begin;
  batch.pixels_ICYX = at::empty({needed.size(), 3, config.height, config.width}, at::kFloat);
  auto* out = batch.pixels_ICYX.mutable_data_ptr<float>();
  TileRange picture;  // its place among the tiles of the batch
  for (const BatchSegment& segment : segments) {
    for (const std::uint32_t item : segment.media) {
      const MediaRecord& media = dataset.media(item);
      picture = {picture.end, picture.end + media.rows};
      const TileRange wanted{std::max(needed.begin, picture.begin) - picture.begin,
                             std::min(needed.end, picture.end) - picture.begin};
      if (wanted.size() <= 0) continue;
      const std::string name = media_name(dataset, item);
      Image image;
      try {
        image = load_media(dataset, item, name);
      } catch (const UserError& e) {
        throw UserError(concat(dataset.describe_sample(segment.sample), ": ", e.what()));
      }
      try {
        processor.process_into(image, media, wanted, out);
      } catch (const UserError& e) {
        throw UserError(
            concat(dataset.describe_sample(segment.sample), ": ", name, ": ", e.what()));
      }
      out += wanted.size() * processor.tile_values();
    }
  }
}

Batch join(const Dataset& dataset, const ImageProcessor& processor,
           const std::vector<BatchSegment>& segments, std::span<const std::uint32_t> samples,
           bool with_loss, const TileChoice& tiles) {
  Batch batch;
  batch.samples.assign(samples.begin(), samples.end());
  for (const BatchSegment& segment : segments) batch.num_tiles += segment.tiles;
  fill_tokens(dataset, segments, batch);
  fill_loss(dataset, segments, with_loss, batch);
  keep_rows_on_host(batch);
  fill_pixels(dataset, processor, segments, tiles(batch.num_tiles), batch);
  return batch;
}

// Those that there are: text models have no pixels.
std::vector<at::Tensor*> tensors_of(Batch& batch) {
  std::vector<at::Tensor*> tensors{&batch.token_ids_T,   &batch.positions_T, &batch.pixels_ICYX,
                                   &batch.image_rows_R,  &batch.loss_rows_Q, &batch.targets_Q,
                                   &batch.loss_weights_Q};
  std::erase_if(tensors, [](const at::Tensor* tensor) { return !tensor->defined(); });
  return tensors;
}

std::vector<std::int64_t> to_vector(const at::Tensor& values) {
  if (!values.defined()) return {};
  const at::Tensor flat = values.contiguous();
  const auto* begin = flat.const_data_ptr<std::int64_t>();
  return {begin, begin + flat.numel()};
}

}  // namespace

void keep_rows_on_host(Batch& batch) {
  batch.image_rows = to_vector(batch.image_rows_R);
  batch.loss_rows = to_vector(batch.loss_rows_Q);
}

Batch collate(const Dataset& dataset, const ImageProcessor& processor,
              std::span<const std::uint32_t> samples, const TileChoice& tiles) {
  std::vector<BatchSegment> segments;
  for (const std::uint32_t sample : samples) {
    GIMBAL_CHECK(sample < dataset.num_samples(), "sample ", sample, " of ", dataset.num_samples());
    segments.push_back(make_segment(dataset, sample, dataset.sample(sample).num_tokens));
  }
  return join(dataset, processor, segments, samples, true, tiles);
}

Batch collate_prompts(const Dataset& dataset, const ImageProcessor& processor,
                      std::span<const std::uint32_t> samples,
                      std::span<const std::uint32_t> num_tokens, const TileChoice& tiles) {
  GIMBAL_CHECK_EQ(samples.size(), num_tokens.size());
  std::vector<BatchSegment> segments;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    GIMBAL_CHECK(samples[i] < dataset.num_samples(), "sample ", samples[i], " of ",
                 dataset.num_samples());
    segments.push_back(make_segment(dataset, samples[i], num_tokens[i]));
  }
  return join(dataset, processor, segments, samples, false, tiles);
}

Batch to_device(const Batch& batch, const at::Device& device) {
  // Towards the host a copy that nobody waits for would be read too early.
  const bool non_blocking = !device.is_cpu();
  Batch moved = batch;
  for (at::Tensor* tensor : tensors_of(moved))
    *tensor = tensor->to(tensor->options().device(device), non_blocking);
  return moved;
}

Batch to_pinned(const Batch& batch) {
  Batch pinned = batch;
  for (at::Tensor* tensor : tensors_of(pinned)) {
    const at::Tensor pageable = tensor->contiguous();
    GIMBAL_CHECK(pageable.is_cpu(), "a batch that is to be page-locked is on ",
                 pageable.device().str());
    *tensor = at::empty(pageable.sizes(), pageable.options().pinned_memory(true));
    // A plain copy: at::copy_ would start torch's threads in each worker.
    if (pageable.nbytes() > 0)
      std::memcpy(tensor->mutable_data_ptr(), pageable.const_data_ptr(), pageable.nbytes());
  }
  return pinned;
}

}  // namespace gimbal
