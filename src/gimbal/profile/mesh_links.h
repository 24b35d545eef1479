// Tests the connections of a mesh: every group along an axis, every pair of neighbouring stages.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/base/units.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {

struct MeshLink {
  std::string axis;        // "world", "tp", "sp", "dp_shard", "replicas", "pp"
  std::vector<int> ranks;  // of the launch; two neighbours for "pp"
  /// Of a message of 4 KiB: an all-gather's time over the messages that each rank gets in it, one
  /// from every other; half a round trip for "pp".
  Seconds latency = 0;
  /// That each rank sends: in an all-reduce, or in a message for "pp".
  double bytes_per_second = 0;
  bool right = false;     // what arrived is what was sent
  std::string transport;  // what carries it: Comm::transport
};

/// Makes the groups of the mesh and times them, all of an axis at the same time, with messages of
/// 4 KiB and of `large_bytes`. Collective over all processes; the same on all ranks: by axis, then
/// by ranks. Empty for one process. Throws as the groups and their calls do.
std::vector<MeshLink> measure_mesh_links(CommWorld& world, const MeshShape& shape,
                                         std::int64_t large_bytes = std::int64_t{16} << 20);

/// Place of a rank in the mesh: "pp 1, tp 0"; empty when no axis is above 1.
std::string mesh_place(const MeshShape& shape, int rank);

}  // namespace gimbal
