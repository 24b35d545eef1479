// Qwen2-VL, Qwen2.5-VL and Qwen3-VL as data. One row of vision work is a patch; four of them (a
// square of spatial_merge_size) become one visual token.
#pragma once

#include "gimbal/arch/config_reader.h"
#include "gimbal/arch/model_desc.h"

namespace gimbal {

/// Text keys may be in the outer object, as in the published folders of the first two.
void describe_qwen2_vl(const ConfigReader& config, ModelDesc& desc);
/// Layers that are not in fullatt_block_indexes attend inside windows. Windows at the border of a
/// picture are smaller; they are counted as full ones.
void describe_qwen2_5_vl(const ConfigReader& config, ModelDesc& desc);
/// DeepStack: after some layers a merger makes visual features that the first text layers add. Its
/// parameters and work belong to the vision layer in front of it.
void describe_qwen3_vl(const ConfigReader& config, ModelDesc& desc);

}  // namespace gimbal
