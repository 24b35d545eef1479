// What blocks, links and the optimizer cost on a machine: measured by `gimbal profile`, or computed
// from a machine's data sheet. Costs are those of one device that holds whole blocks (tp = sp = ep
// = 1).
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/base/units.h"
#include "gimbal/cost/cost_line.h"

namespace gimbal {

inline constexpr std::size_t kNumRecomputeLevels = 4;  // indexed by Recompute

/// Costs of the blocks of one class (BlockDesc::cost_class). Rows and pairs as arch counts them.
struct BlockCost {
  CostLine forward;          // seconds
  CostLine backward_input;   // seconds: input gradients only (a frozen block; half of zero bubble)
  CostLine backward_weight;  // seconds that weight gradients add
  /// Seconds added to backward per level; keep: zero.
  std::array<CostLine, kNumRecomputeLevels> recompute;
  /// Bytes held from forward to backward per level.
  std::array<CostLine, kNumRecomputeLevels> saved;
  /// Bytes held for a moment on top of `saved` while forward runs, and while backward runs at each
  /// level (recomputed activations and gradients of activations).
  CostLine forward_workspace;
  std::array<CostLine, kNumRecomputeLevels> backward_workspace;
  CostLine output;      // bytes that the block hands on
  double residual = 0;  // of the fits of time: root mean square of (measured / fitted - 1)
};

/// A message takes latency + bytes / bandwidth.
struct LinkCost {
  Seconds latency = 0;
  double bytes_per_second = 0;  // 0: there is no such link

  Seconds seconds(Bytes bytes) const {
    return latency + (bytes_per_second > 0 ? bytes / bytes_per_second : 0);
  }
};

/// Links inside a node and between nodes, each as a device sees it.
struct LinkTable {
  LinkCost inside_node;
  LinkCost between_nodes;
  int devices_per_node = 1;
};

struct ProfileTable {
  std::string origin;      // "measured" or "analytic"
  std::string hardware;    // "a100-80g", or the measured machine's name
  std::string dtype;       // of activations: "bfloat16", "float32"
  std::string model_type;  // of the model that was profiled
  /// Describes the blocks that were profiled (sizes); a table fits a model with the same one.
  std::string model_fingerprint;
  Bytes memory_bytes = 0;                   // of a device
  Bytes reserved_bytes = 0;                 // of these, not ours: context, libraries, fragmentation
  std::map<std::string, BlockCost> blocks;  // by cost class
  Seconds optimizer_per_parameter = 0;
  Seconds step_overhead = 0;  // of an optimizer step, whatever its size
  LinkTable links;
  double peak_flops = 0;           // of a device, dense, at `dtype`; for utilisation
  int value_bytes = 2;             // of `dtype`
  std::vector<std::string> notes;  // sources and assumptions, for people

  /// Throws UserError that lists the classes that there are when `cost_class` is missing.
  const BlockCost& block(const std::string& cost_class) const;
};

OrderedJson to_json(const ProfileTable& table);
/// Throws UserError that names file and key for what is missing, unknown or not a number.
ProfileTable profile_from_json(const Json& json, const std::string& where);
void save_profile(const ProfileTable& table, const std::filesystem::path& file);
ProfileTable load_profile(const std::filesystem::path& file);

}  // namespace gimbal
