// Which meshes a number of devices and a model allow.
#pragma once

#include <optional>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/config/mesh_shape.h"
#include "gimbal/plan/planner.h"

namespace gimbal {

/// All meshes with the input's devices and fixed axes. Searched axes: pp up to the number of
/// layers, tp inside a node, sp up to 16, ep where there are experts; dp_shard is 1, all of data
/// parallel, or what stays inside a node. tp divides the text model's heads and feed-forward width
/// and the vision tower's feed-forward width (vision heads are padded to a multiple); tp * sp
/// divides the heads; key-value heads are replicated when there are fewer. Throws UserError that
/// says which axis and which number of the model or of the devices is in the way.
std::vector<MeshShape> possible_meshes(const PlanInput& input);

}  // namespace gimbal
