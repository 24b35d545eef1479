#include "gimbal/config/mesh_shape.h"

#include <utility>

namespace gimbal {

std::string to_string(const MeshShape& mesh) {
  std::string text;
  for (const auto& [name, size] : {std::pair{"pp", mesh.pp},
                                   {"dp_replicate", mesh.dp_replicate},
                                   {"dp_shard", mesh.dp_shard},
                                   {"sp", mesh.sp},
                                   {"tp", mesh.tp},
                                   {"ep", mesh.ep}}) {
    if (size == 1) continue;
    if (!text.empty()) text += ", ";
    text += std::string(name) + " " + std::to_string(size);
  }
  return text.empty() ? "1 device" : text;
}

}  // namespace gimbal
