#include "gimbal/models/mesh_fit.h"

#include <string>

#include "gimbal/base/error.h"
#include "gimbal/config/mesh_shape.h"

namespace gimbal {

int tensor_parts(const Ports& ports) { return ports.linear->units(0).parts(); }

int sequence_parts(const Ports& ports) { return ports.sequence->sequence_split(0).parts(); }

void check_text_heads(std::int64_t num_heads, std::int64_t num_kv_heads, const Ports& ports) {
  const std::string objection = heads_objection({.text = num_heads, .text_kv = num_kv_heads},
                                                tensor_parts(ports), sequence_parts(ports));
  GIMBAL_USER_CHECK(objection.empty(), objection);
}

void check_vision_heads(std::int64_t num_heads, const Ports& ports) {
  const std::string objection =
      heads_objection({.vision = num_heads}, tensor_parts(ports), sequence_parts(ports));
  GIMBAL_USER_CHECK(objection.empty(), objection);
}

}  // namespace gimbal
