// Forward passes without recording, of a model that one process has or many share.
#pragma once

#include "gimbal/models/model.h"
#include "gimbal/parallel/store.h"
#include "gimbal/train/layout/placement.h"

namespace gimbal {

class ForwardRunner {
 public:
  /// This process has the whole model. The references must outlive the runner.
  ForwardRunner(const Model& model, ParameterStore& store);
  ForwardRunner(const Model& model, ParameterStore& store, const Placement& placement,
                at::ScalarType dtype);

  /// Collective over the ranks that share the pack and over the pipeline. Returns what the last
  /// block has made: the loss sum of this rank's rows (undefined but on the last stage), or the
  /// logits, on all ranks.
  Flow run(const PassContext& context) const;

  /// Ranks with other packs that take part in the same collectives, so that all have to run equally
  /// many passes.
  bool needs_equal_counts() const;
  /// True on all of these ranks when `value` is true on one. Collective over them.
  bool any(bool value) const;

 private:
  const Model& model_;
  ParameterStore& store_;
  const Placement* placement_ = nullptr;
  at::ScalarType dtype_ = at::kFloat;
};

}  // namespace gimbal
