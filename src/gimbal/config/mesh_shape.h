// How many devices each axis of the mesh has.
#pragma once

#include <string>

namespace gimbal {

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

/// "pp 4, tp 4, dp_shard 8": the axes above 1; "1 device" when there is none.
std::string to_string(const MeshShape& mesh);

}  // namespace gimbal
