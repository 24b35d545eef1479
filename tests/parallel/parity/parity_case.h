// The cases of the parity matrix: a mesh and the choices that must not change what is trained.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "gimbal/config/mesh_shape.h"
#include "gimbal/config/recipe.h"

namespace gimbal::parity {

/// What is not trained.
enum class FrozenPart { kNone, kVision, kVisionEmbed, kText, kTextEmbed };

struct Case {
  MeshShape mesh;
  PipelineChoice schedule = PipelineChoice::kOneFOneB;
  std::int64_t stages_per_rank = 1;
  Recompute recompute = Recompute::kKeep;
  WeightsChoice weights = WeightsChoice::kKeep;
  FrozenPart frozen = FrozenPart::kNone;
  bool prefetch = true;
  bool tied = true;
  bool clip = true;

  /// A word for folders and messages.
  std::string name() const;
  /// Cases of a group do the same sums in the same order.
  std::string group() const;
  /// The case of one process that trains the same.
  Case alone() const;
};

/// All ways to write `devices` as a product of the axes.
std::vector<MeshShape> factorizations(int devices);

/// Every mesh of `devices` processes with {1F1B, ZB-H1} where there is a pipeline, {keep, full
/// recompute}, {keep, free weights} and prefetch on and off where weights are sharded, {all
/// trained, vision frozen}; and with frozen patches only, {ZB-H1, full recompute, free weights}:
/// the tower's first layers have no gradient to pass on, whatever the packs bring.
std::vector<Case> matrix(int devices);

/// Three steps of eight packs in float32. `root` holds what write_inputs has made.
Recipe recipe_of(const Case& parity_case, const std::filesystem::path& root);

/// Tiny InternVL folders without weights (embedding tied with the head, or not) and a data set of
/// unlike samples, most of them without pictures.
void write_inputs(const std::filesystem::path& root);

inline constexpr int kSteps = 3;
inline constexpr double kLearningRate = 5e-3;

}  // namespace gimbal::parity
