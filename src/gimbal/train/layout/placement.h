// This process' part of a run that is spread over processes: its mesh, its stages, its ports.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "gimbal/models/model.h"
#include "gimbal/parallel/mesh.h"
#include "gimbal/parallel/pipeline.h"
#include "gimbal/train/layout/run_layout.h"

namespace gimbal {

class Placement {
 public:
  /// Collective. `name`: unique among the placements of the launch.
  Placement(CommWorld& comm, RunLayout layout, const std::string& name);

  const RunLayout& layout() const { return layout_; }
  const Mesh& mesh() const { return mesh_; }
  const Ports& ports() const { return ports_; }
  /// This rank's stages, ascending.
  const std::vector<BlockRange>& own_stages() const { return own_stages_; }
  PipelineGroups pipeline_groups() const;
  /// Whether this rank's loss sums are among those that add up to the step's: the last stage's, of
  /// one tensor-parallel rank.
  bool counts_loss() const;
  /// Whether this rank stands for all that share its packs.
  bool is_first_of_pack() const;
  /// The tiles whose pixels this rank's blocks read. The model must outlive what is returned.
  TileChoice tiles_read(const Model& model) const;
  /// The store of this rank's blocks, without dtypes, device and groups of the optimizer.
  StoreSetup store_setup(const Model& model) const;
  /// Index of the data rank (Mesh::data_rank) of each rank of the world.
  const std::vector<std::size_t>& data_ranks() const { return data_ranks_; }

 private:
  RunLayout layout_;
  Mesh mesh_;
  Ports ports_;
  std::vector<BlockRange> own_stages_;
  std::vector<std::size_t> data_ranks_;
};

}  // namespace gimbal
