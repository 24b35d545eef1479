#include "gimbal/models/internvl/layout.h"

#include "gimbal/models/text/layout.h"

namespace gimbal {

LayoutTable internvl_layout(const InternVlConfig& config, int tensor_parts) {
  const InternVlVisionConfig& c = config.vision;
  const std::int64_t head_dim = c.head_dim();
  LayoutTable table{
      {"vision.embed.*"},
      {"vision.*.norm_before.*"},
      {"vision.*.attention.q_proj.*", 0, head_dim},
      {"vision.*.attention.k_proj.*", 0, head_dim},
      {"vision.*.attention.v_proj.*", 0, head_dim},
      {"vision.*.attention.o_proj.weight", 1, head_dim},
      {"vision.*.attention.o_proj.bias"},
      {"vision.*.lambda_*"},
      {"vision.*.norm_after.*"},
      {"vision.*.mlp.fc1.*", 0},
      {"vision.*.mlp.fc2.weight", 1},
      {"vision.*.mlp.fc2.bias"},
      {"projector.*"},
  };
  if (c.qk_norm) {
    table.push_back({"vision.*.attention.q_norm.weight", 0, head_dim});
    table.push_back({"vision.*.attention.k_norm.weight", 0, head_dim});
  }
  for (LayoutRow& row : text_layout(config.text, tensor_parts)) table.push_back(std::move(row));
  return table;
}

}  // namespace gimbal
