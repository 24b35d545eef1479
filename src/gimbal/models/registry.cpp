#include "gimbal/models/internvl/build.h"
#include "gimbal/models/model.h"
#include "gimbal/models/text/build.h"

namespace gimbal {

Model make_model(const Json& config, const std::string& where) {
  GIMBAL_USER_CHECK(config.is_object(), where, ": a model configuration must be a JSON object");
  const auto type = json_get<std::string>(config, "model_type", where);
  if (is_text_family(type)) return make_text_model(config, where);
  if (type == "internvl") return make_internvl_model(config, where);
  throw UserError(concat(where, ": key 'model_type' is '", type,
                         "'; known model types are internvl, qwen2, qwen3 and llama"));
}

}  // namespace gimbal
