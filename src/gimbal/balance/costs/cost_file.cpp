#include "gimbal/balance/costs/cost_file.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gimbal/base/json.h"

namespace gimbal {
namespace {

double read_coefficient(const Json& stream, const char* key, const std::string& where) {
  const Json& value = stream.at(key);
  GIMBAL_USER_CHECK(value.is_number(), where, ": key '", key, "' is ", value.dump(),
                    "; it must be a number");
  const auto number = value.get<double>();
  GIMBAL_USER_CHECK(std::isfinite(number) && number >= 0, where, ": key '", key, "' is ", number,
                    "; it must be a number of at least 0");
  return number;
}

StreamCost read_stream_cost(const Json& stream, const std::string& where) {
  GIMBAL_USER_CHECK(stream.is_object(), where,
                    " must be an object with the keys per_row and per_pair");
  for (const auto& [key, value] : stream.items()) {
    GIMBAL_USER_CHECK(key == "per_row" || key == "per_pair", where, ": unknown key '", key,
                      "'; the keys are per_row and per_pair");
  }
  GIMBAL_USER_CHECK(stream.contains("per_row"), where, ": key 'per_row' is missing");
  return {read_coefficient(stream, "per_row", where),
          stream.contains("per_pair") ? read_coefficient(stream, "per_pair", where) : 0.0};
}

}  // namespace

std::vector<StreamCost> read_cost_file(const std::filesystem::path& file,
                                       std::span<const std::string> streams) {
  const Json content = read_json(file);
  const std::string where = file.string();
  GIMBAL_USER_CHECK(
      content.is_object() && content.contains("streams") && content.at("streams").is_object(),
      where,
      ": a cost file is {\"streams\": {NAME: {\"per_row\": NUMBER, "
      "\"per_pair\": NUMBER}}}, but 'streams' is missing or no object");
  const Json& given = content.at("streams");
  std::string known;
  for (const auto& [name, value] : given.items()) known += (known.empty() ? "" : ", ") + name;
  std::vector<StreamCost> costs;
  for (const std::string& name : streams) {
    GIMBAL_USER_CHECK(given.contains(name), where, ": no cost for the stream '", name,
                      "'; the file has: ", known.empty() ? "none" : known);
    costs.push_back(read_stream_cost(given.at(name), where + ": stream '" + name + "'"));
  }
  return costs;
}

std::vector<StreamCost> default_costs(const PackCaps& caps, const SampleSizes& sizes) {
  GIMBAL_USER_CHECK(caps.cost == 0,
                    "balance: a cap on cost needs cost coefficients: give them per "
                    "stream, in a cost file, or name a model");
  const auto streams = static_cast<std::size_t>(sizes.num_streams);
  std::vector<double> mean(streams, 0);
  for (std::size_t i = 0; i < sizes.num_samples(); ++i)
    for (std::size_t k = 0; k < streams; ++k) mean[k] += sizes.at(i, static_cast<int>(k));
  constexpr double kUncapped = std::numeric_limits<double>::infinity();
  double samples = caps.samples > 0 ? static_cast<double>(caps.samples) : kUncapped;
  for (std::size_t k = 0; k < streams; ++k) {
    mean[k] /= static_cast<double>(std::max<std::size_t>(sizes.num_samples(), 1));
    const std::uint64_t cap = caps.of(static_cast<int>(k));
    if (cap > 0 && mean[k] > 0) samples = std::min(samples, static_cast<double>(cap) / mean[k]);
  }
  std::vector<StreamCost> costs;
  for (std::size_t k = 0; k < streams; ++k) {
    const std::uint64_t cap = caps.of(static_cast<int>(k));
    const double full = cap > 0 ? static_cast<double>(cap) : samples * mean[k];
    const bool known = std::isfinite(full) && full > 0;
    costs.push_back({known ? 1.0 / full : 1.0, 0.0});
  }
  return costs;
}

}  // namespace gimbal
