// What the user asks of `gimbal balance`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli/command.h"
#include "gimbal/balance/sampler.h"

namespace gimbal::cli {

struct CapArgument {
  std::string stream;
  std::uint64_t rows = 0;
  bool automatic = false;  // "auto": rows is to be chosen
};

enum class BoundKind { kFast, kLp };

/// Streams and sources are names as the user wrote them; whether the input has them is checked when
/// it is read.
struct BalanceArguments {
  std::vector<std::string> files;
  std::vector<CapArgument> caps;
  double cap_cost = 0;                 // 0: none
  std::uint64_t samples_per_pack = 0;  // 0: not given
  std::uint64_t ranks = 8;
  std::uint64_t accumulate = 1;
  PackMethod method = PackMethod::kGimbal;
  int rounds = 50;
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;
  BoundKind bound = BoundKind::kFast;
  std::vector<std::pair<std::string, double>> source_weights;
  std::vector<std::pair<std::string, StreamCost>> costs;
  std::string costs_file;
  std::string model;
  OversizePolicy oversize = OversizePolicy::kError;
  double memory_bytes = 0;  // 0: not given
  std::vector<std::pair<std::string, double>> bytes_per_row;
  std::optional<double> pack_overhead;
  bool compare = false;
  // Files to write or keep; empty: none.
  std::string rejected_file;
  std::string patterns_file;
  std::string plot_file;
  std::string packs_file;
  std::string json_file;  // "-": stdout

  bool cap_is_sought() const;
  std::uint64_t packs_per_step() const { return ranks * accumulate; }
};

/// Parses the words after `gimbal balance`. Throws UserError for what cannot work whatever the
/// input is.
BalanceArguments parse_balance_arguments(const Arguments& words);

/// "gimbal", "isf", "bfd", "random", "length".
std::string method_name(PackMethod method);

}  // namespace gimbal::cli
