// Properties on many random cases, and random numbers over their whole range.
#pragma once

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <sstream>
#include <utility>

namespace gimbal::testing {

/// Checks a property on `cases` random cases (or on more, when RC_PARAMS asks for more). A failure
/// prints the smallest case found and what to set RC_PARAMS to in order to repeat it.
template <typename Property>
void check_cases(int cases, Property&& property) {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  rc::detail::TestMetadata metadata;
  metadata.id = std::string(info->test_suite_name()) + "/" + info->name();
  metadata.description = info->name();
  auto params = rc::detail::configuration().testParams;
  params.maxSuccess = std::max(params.maxSuccess, cases);
  const auto result = rc::detail::checkTestable(std::forward<Property>(property), metadata, params);
  std::ostringstream message;
  rc::detail::printResultMessage(result, message);
  EXPECT_TRUE(result.template is<rc::detail::SuccessResult>()) << message.str();
}

/// Uniform in [low, high). rapidcheck's own range starts narrow and grows with the cases.
template <typename T>
rc::Gen<T> between(T low, T high) {
  return rc::gen::resize(rc::kNominalSize, rc::gen::inRange<T>(low, high));
}

}  // namespace gimbal::testing
