// Stages without a model: they hand over tensors that say where they come from, and check what they
// get.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/base/rng.h"
#include "gimbal/parallel/pipeline.h"
#include "gimbal/schedule/text.h"

namespace gimbal::testing {

/// Which tensors cross each boundary: random, and the same for all who ask with the same seed.
struct FakeBoundaries {
  std::uint64_t seed = 0;
  int first_trained_stage = 0;
  at::ScalarType dtype = at::kFloat;
  std::int64_t width = 1;                // multiplies those of the streams
  std::int64_t extra_gradient_rows = 0;  // a fault: more rows than the boundary has

  std::uint64_t random(const std::string& what, int stage, int micro_batch,
                       std::uint64_t bound) const {
    const CounterRng rng(seed, hash_name(what));
    return rng.below(static_cast<std::uint64_t>(1000 * stage + micro_batch), bound);
  }
  std::optional<RowsShape> rows(const std::string& stream, int stage, int micro_batch,
                                std::int64_t stream_width) const {
    // Streams live on some boundaries only; micro-batches are unlike, many without rows.
    if (random(stream + " lives", stage, 0, 4) == 0) return std::nullopt;
    return RowsShape{static_cast<std::int64_t>(random(stream, stage, micro_batch, 4)),
                     width * stream_width};
  }
  StageBoundary at(int stage, int micro_batch) const {
    return {{rows("vision", stage, micro_batch, 3), rows("text", stage, micro_batch, 5)},
            dtype,
            first_trained_stage <= stage};
  }
};

class FakeStages : public StageRunner {
 public:
  FakeStages(const Schedule& schedule, FakeBoundaries boundaries, const at::Device& device)
      : most_held(static_cast<std::size_t>(schedule.num_stages), 0),
        boundaries_(boundaries),
        last_(schedule.num_stages - 1),
        device_(device),
        held_(most_held) {}

  Flow forward(int stage, int micro_batch, Flow in) override {
    note(stage, ActionKind::kForward, micro_batch);
    if (stage == 0) {
      GIMBAL_CHECK(!in.text.defined() && !in.vision.defined(), "an input of stage 0");
    } else {
      expect(in, stage - 1, micro_batch, /*gradient=*/false);
    }
    const auto s = static_cast<std::size_t>(stage);
    most_held[s] = std::max(most_held[s], ++held_[s]);
    if (stage < last_) return made(stage, micro_batch, /*gradient=*/false);
    Flow out;
    out.loss = at::full({}, micro_batch);
    return out;
  }
  Flow backward(int stage, int micro_batch, Flow gradients) override {
    note(stage, ActionKind::kBackward, micro_batch);
    --held_[static_cast<std::size_t>(stage)];
    return input_gradients(stage, micro_batch, gradients);
  }
  Flow backward_input(int stage, int micro_batch, Flow gradients) override {
    note(stage, ActionKind::kBackwardInput, micro_batch);
    return input_gradients(stage, micro_batch, gradients);
  }
  void backward_weight(int stage, int micro_batch) override {
    note(stage, ActionKind::kBackwardWeight, micro_batch);
    --held_[static_cast<std::size_t>(stage)];
  }
  StageBoundary boundary(int stage, int micro_batch) const override {
    GIMBAL_CHECK(stage >= 0 && stage < last_, "no boundary after stage ", stage);
    return boundaries_.at(stage, micro_batch);
  }

  std::string calls;           // "0F0 0F1 ..."
  std::vector<int> most_held;  // per stage

 private:
  void note(int stage, ActionKind kind, int micro_batch) {
    calls += (calls.empty() ? "" : " ") + to_string(Action{stage, kind, micro_batch});
  }
  Flow input_gradients(int stage, int micro_batch, const Flow& gradients) {
    if (stage < last_) expect(gradients, stage, micro_batch, /*gradient=*/true);
    if (stage == 0) return Flow();
    return made(stage - 1, micro_batch, /*gradient=*/true);
  }

  /// A gradient that no block has asked for.
  bool is_absent(const std::string& stream, int boundary, int micro_batch) const {
    return boundaries_.random(stream + " gradient", boundary, micro_batch, 5) == 0;
  }
  at::Tensor tensor(const std::string& stream, const RowsShape& shape, int boundary,
                    int micro_batch, bool gradient) const {
    const auto options = at::TensorOptions().dtype(at::kFloat).device(device_);
    const double tag = 16 * (gradient ? 1 : 0) + 4 * micro_batch + boundary;
    return (at::arange(shape.rows * shape.width, options).view({shape.rows, shape.width}) +
            64 * tag + (stream == "text" ? 32 : 0))
        .to(boundaries_.dtype);
  }
  Flow made(int boundary, int micro_batch, bool gradient) const {
    Flow flow;
    const StageBoundary at = boundaries_.at(boundary, micro_batch);
    if (gradient && !at.needs_gradient) return flow;
    const auto fill = [&](const char* stream, const std::optional<RowsShape>& shape,
                          at::Tensor& out) {
      if (!shape || (gradient && is_absent(stream, boundary, micro_batch))) return;
      RowsShape filled = *shape;
      if (gradient) filled.rows += boundaries_.extra_gradient_rows;
      out = tensor(stream, filled, boundary, micro_batch, gradient);
    };
    fill("vision", at.shape.vision, flow.vision);
    fill("text", at.shape.text, flow.text);
    return flow;
  }
  void expect(const Flow& got, int boundary, int micro_batch, bool gradient) const {
    const StageBoundary at = boundaries_.at(boundary, micro_batch);
    const bool nothing = gradient && !at.needs_gradient;
    const auto check = [&](const std::string& stream, const std::optional<RowsShape>& shape,
                           const at::Tensor& tensor_got) {
      const std::string place = concat(stream, gradient ? " gradients" : "", " of micro-batch ",
                                       micro_batch, " at boundary ", boundary);
      const bool wanted_here = shape.has_value() && !nothing;
      const bool absent = gradient && is_absent(stream, boundary, micro_batch);
      GIMBAL_CHECK(tensor_got.defined() == wanted_here || (wanted_here && absent), "", place,
                   " are there or not");
      if (!tensor_got.defined()) return;
      at::Tensor wanted = tensor(stream, *shape, boundary, micro_batch, gradient);
      if (absent) wanted = wanted * 0;
      GIMBAL_CHECK(at::equal(tensor_got, wanted), "wrong ", place);
    };
    check("vision", at.shape.vision, got.vision);
    check("text", at.shape.text, got.text);
  }

  FakeBoundaries boundaries_;
  int last_;
  at::Device device_;
  std::vector<int> held_;
};

/// The rank's list as FakeStages::calls has it.
inline std::string calls_of(const Schedule& schedule, int rank, bool forward_only = false) {
  std::string calls;
  for (const Action& action : schedule.ranks[static_cast<std::size_t>(rank)]) {
    if (forward_only && action.kind != ActionKind::kForward) continue;
    calls += (calls.empty() ? "" : " ") + to_string(action);
  }
  return calls;
}

}  // namespace gimbal::testing
