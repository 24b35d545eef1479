// The figures of `gimbal balance` for machines. The keys are described in
// docs/balance_command.md.
#pragma once

#include <string>

#include "apps/cli/balance/arguments.h"
#include "apps/cli/balance/run.h"
#include "apps/cli/balance/setup.h"
#include "gimbal/base/json.h"

namespace gimbal::cli {

/// Times that the caller took, in seconds.
struct BalanceTimes {
  double read = 0;
  double caps = 0;   // choosing a cap
  double total = 0;  // of the whole command so far
};

OrderedJson balance_json(const BalanceArguments& arguments, const BalanceSetup& setup,
                         const BalanceResult& result, const BalanceTimes& times);

/// The figures of one method, as they stand in `methods` and in the data of a plot.
OrderedJson method_json(const BalanceSetup& setup, const BalanceResult& result,
                        const MethodResult& method);

/// On one line, or with `indent` spaces per level. Names that are no UTF-8 do not stop it.
std::string text_of(const OrderedJson& json, int indent = -1);

/// {stream: cap or null}.
OrderedJson caps_json(const BalanceSetup& setup);
/// [{name, samples, drawn, weight}].
OrderedJson sources_json(const BalanceSetup& setup, const BalanceResult& result);
/// {stream, cap, auto, closed_form, points: [...]}.
OrderedJson curve_json(const BalanceSetup& setup, const CapCurve& curve);

}  // namespace gimbal::cli
