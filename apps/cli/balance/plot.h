// The page of `gimbal balance --plot`: gathers the data, Python draws it.
#pragma once

#include "apps/cli/balance/arguments.h"
#include "apps/cli/balance/json.h"
#include "apps/cli/balance/run.h"
#include "apps/cli/balance/setup.h"

namespace gimbal::cli {

/// The data of the page: for each method the loads of the first and last slots and how full its
/// packs are, and the curves of the caps.
OrderedJson plot_json(const BalanceArguments& arguments, const BalanceSetup& setup,
                      const BalanceResult& result);

/// Writes the page to arguments.plot_file. Throws UserError when Python is missing or gives up.
void write_plot(const BalanceArguments& arguments, const BalanceSetup& setup,
                const BalanceResult& result);

}  // namespace gimbal::cli
