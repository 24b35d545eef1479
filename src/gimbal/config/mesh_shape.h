// How many devices each axis of the mesh has, and which of them divide a model's heads.
#pragma once

#include <cstdint>
#include <string>

#include "gimbal/config/recipe.h"

namespace gimbal {

/// No mesh has more devices than this, of a plan or of a run.
inline constexpr std::int64_t kMostDevices = std::int64_t{1} << 20;

/// Devices = pp * dp_replicate * dp_shard * sp * tp. `ep` is a view over dp_shard x sp and must
/// divide their product.
struct MeshShape {
  int pp = 1;
  int dp_replicate = 1;
  int dp_shard = 1;
  int sp = 1;
  int tp = 1;
  int ep = 1;

  int devices() const { return pp * dp_replicate * dp_shard * sp * tp; }
  /// Ranks that run different packs at the same time.
  int data_parallel() const { return dp_replicate * dp_shard; }
  bool operator==(const MeshShape&) const = default;
};

/// Calls v(name, size) for each axis, from the outermost; ep last. The names are those of files and
/// messages.
template <typename Mesh, typename V>
void visit_axes(Mesh& mesh, V&& v) {
  v("pp", mesh.pp);
  v("dp_replicate", mesh.dp_replicate);
  v("dp_shard", mesh.dp_shard);
  v("sp", mesh.sp);
  v("tp", mesh.tp);
  v("ep", mesh.ep);
}

/// The recipe's axes, checked one by one, over `world_size` processes. Throws UserError when they
/// do not make as many.
MeshShape mesh_of_processes(const ParallelConfig& config, int world_size);

/// "pp 4, tp 4, dp_shard 8": the axes above 1; "1 device" when there is none.
std::string to_string(const MeshShape& mesh);

/// Attention heads of a model; 0 where it has none.
struct HeadCounts {
  std::int64_t text = 0;
  std::int64_t text_kv = 0;
  std::int64_t vision = 0;
};

/// Why the heads cannot be cut over the tp x sp ranks of a pack, with what to choose instead; empty
/// when they can. tp x sp divides the text model's heads; its key-value heads and tp x sp divide
/// one another; the vision tower has at least tp heads.
std::string heads_objection(const HeadCounts& heads, std::int64_t tp, std::int64_t sp);

}  // namespace gimbal
