// The figures of `gimbal balance` for people.
#pragma once

#include <string>

#include "apps/cli/balance/arguments.h"
#include "apps/cli/balance/json.h"
#include "apps/cli/balance/run.h"
#include "apps/cli/balance/setup.h"

namespace gimbal::cli {

/// A few lines that end with a newline; with --compare a table of all methods below.
std::string balance_table(const BalanceArguments& arguments, const BalanceSetup& setup,
                          const BalanceResult& result, const BalanceTimes& times);

}  // namespace gimbal::cli
