// Machines by data sheet, and the profile that follows from one.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "gimbal/arch/model_desc.h"
#include "gimbal/cost/profile_table.h"

namespace gimbal {

/// One kind of device and how devices are connected. Peaks are dense.
struct Hardware {
  std::string name;
  std::map<std::string, double> peak_flops;  // by dtype: "bfloat16", "float32"
  double memory_bandwidth = 0;               // bytes/s
  Bytes memory_bytes = 0;
  Bytes reserved_bytes = 0;
  LinkTable links;
  /// Share of the peak that products with weights and attention reach, by part: "vision_products",
  /// "vision_attention", "text_products", "text_attention", "head".
  std::map<std::string, double> efficiency;
  Seconds launch_seconds = 0;      // fixed cost of a block's forward pass
  Seconds step_overhead = 0;       // fixed cost of an optimizer step
  std::vector<std::string> notes;  // sources of the numbers
};

/// Built-in machines: a100-40g, a100-80g, a800-80g, h100-80g, h200-141g, b200-192g, rtx4090-24g.
const std::vector<Hardware>& known_hardware();
/// The built-in machine `name`, or one of the JSON file `name` (a path that ends in .json: one
/// machine, or a list with one; keys as in Hardware, docs/planning_model.md has an example). Throws
/// UserError that lists the known names or names file and key.
Hardware find_hardware(const std::string& name);

/// Times are FLOPs / (peak * efficiency) + bytes moved by norms, activations and other elementwise
/// work / memory bandwidth + launch; activations are the values of `model` times the dtype's bytes.
/// The equations are in docs/planning_model.md. Throws UserError for a dtype that `hardware` has no
/// peak of.
ProfileTable analytic_profile(const ModelDesc& model, const Hardware& hardware,
                              const std::string& dtype);

}  // namespace gimbal
