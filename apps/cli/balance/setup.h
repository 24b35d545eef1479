// The arguments, resolved against the input.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/cli/balance/arguments.h"
#include "gimbal/balance/caps/caps.h"
#include "gimbal/balance/sampler.h"
#include "gimbal/data/length_table.h"

namespace gimbal::cli {

struct CapCurve {
  int stream;
  bool automatic;  // this choice made the cap
  CapChoice choice;
};

/// Everything that packing needs. `options` refer to `table`, so it stays where it is made.
struct BalanceSetup {
  explicit BalanceSetup(LengthTable lengths) : table(std::move(lengths)) {}
  BalanceSetup(const BalanceSetup&) = delete;
  BalanceSetup& operator=(const BalanceSetup&) = delete;

  LengthTable table;
  SamplerOptions options;  // of the chosen method; samples_per_group is 0 when not given
  std::vector<double> bytes_per_row;
  std::optional<CapCurve> chosen_cap;

  SampleSizes sizes() const;
  std::size_t num_streams() const { return table.streams.size(); }
};

/// Fills `setup.options` and chooses a cap when that is asked for. Throws UserError for names that
/// the input does not have.
void resolve(const BalanceArguments& arguments, BalanceSetup& setup);

/// The search for a stream's cap while the others stay as they are in `setup`.
CapSearch cap_search(const BalanceArguments& arguments, const BalanceSetup& setup, int stream);

/// The stream that mini-batches are padded in: text or tokens, or else the one with most rows.
int length_stream(const LengthTable& table);

}  // namespace gimbal::cli
