#include "gimbal/arch/config_reader.h"

namespace gimbal {
namespace {

// Above every model's sizes, and small enough that no product of three of them overflows in 64
// bits.
constexpr std::int64_t kLargestCount = std::int64_t{1} << 20;
constexpr std::int64_t kMostLayers = 10000;

}  // namespace

ConfigReader::ConfigReader(const Json& object, std::string where)
    : object_(&object), where_(std::move(where)) {
  GIMBAL_USER_CHECK(object.is_object(), where_, ": a model configuration must be a JSON object");
}

const Json* ConfigReader::find(const std::string& key) const {
  const auto it = object_->find(key);
  return it == object_->end() || it->is_null() ? nullptr : &*it;
}

bool ConfigReader::has(const std::string& key) const { return find(key) != nullptr; }

void ConfigReader::fail(const std::string& key, const std::string& problem) const {
  throw UserError(where_ + ": key '" + key + "' " + problem);
}

std::int64_t ConfigReader::integer(const std::string& key, std::int64_t fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number_integer()) fail(key, "must be a whole number but is " + value->dump());
  return value->get<std::int64_t>();
}

std::int64_t ConfigReader::count(const std::string& key, std::int64_t fallback) const {
  const std::int64_t value = integer(key, fallback);
  if (value < 1 || value > kLargestCount)
    fail(key, concat("must be from 1 to ", kLargestCount, " but is ", value));
  return value;
}

std::int64_t ConfigReader::layers(const std::string& key, std::int64_t fallback) const {
  return layers(key, key, fallback);
}

std::int64_t ConfigReader::layers(const std::string& key, const std::string& other,
                                  std::int64_t fallback) const {
  const std::int64_t value = count(key, other, fallback);
  if (value > kMostLayers) fail(key, concat("must be at most ", kMostLayers, " but is ", value));
  return value;
}

std::int64_t ConfigReader::count(const std::string& key, const std::string& other,
                                 std::int64_t fallback) const {
  if (!has(other)) return count(key, fallback);
  const std::int64_t value = count(other, fallback);
  if (has(key) && count(key, fallback) != value)
    fail(key, concat("is ", count(key, fallback), " but its other name '", other, "' says ", value,
                     "; keep one of them"));
  return value;
}

double ConfigReader::number(const std::string& key, double fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number()) fail(key, "must be a number but is " + value->dump());
  return value->get<double>();
}

bool ConfigReader::flag(const std::string& key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(key, "must be true or false but is " + value->dump());
  return value->get<bool>();
}

std::string ConfigReader::word(const std::string& key, const std::string& fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) fail(key, "must be a string but is " + value->dump());
  return value->get<std::string>();
}

std::int64_t ConfigReader::side(const std::string& key, std::int64_t fallback) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_array()) return count(key, fallback);
  if (value->size() != 2 || value->at(0) != value->at(1))
    fail(key, "must be one number or two equal ones but is " + value->dump());
  const Json one{{key, value->at(0)}};
  return ConfigReader(one, where_).count(key, fallback);
}

std::vector<std::string> ConfigReader::words(const std::string& key) const {
  const Json* value = find(key);
  std::vector<std::string> all;
  if (value == nullptr) return all;
  const auto bad = [&] { fail(key, "must be a list of strings but is " + value->dump()); };
  if (!value->is_array()) bad();
  for (const Json& item : *value) {
    if (!item.is_string()) bad();
    all.push_back(item.get<std::string>());
  }
  return all;
}

std::vector<std::int64_t> ConfigReader::indices(const std::string& key,
                                                const std::vector<std::int64_t>& fallback,
                                                std::int64_t end) const {
  std::vector<std::int64_t> values = fallback;
  if (const Json* value = find(key); value != nullptr) {
    if (!value->is_array()) fail(key, "must be a list of layer numbers but is " + value->dump());
    values.clear();
    for (const Json& item : *value) {
      if (!item.is_number_integer())
        fail(key, "must be a list of layer numbers but is " + value->dump());
      values.push_back(item.get<std::int64_t>());
    }
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= end)
      fail(key, concat("names layer ", values[i], ", but there are layers 0 to ", end - 1));
    if (i > 0 && values[i] <= values[i - 1])
      fail(key, concat("must name each layer once, in rising order, but has ", values[i], " after ",
                       values[i - 1]));
  }
  return values;
}

ConfigReader ConfigReader::part(const std::string& key) const {
  static const Json kNothing = Json::object();
  const Json* value = find(key);
  if (value == nullptr) return {kNothing, where_ + ": " + key};
  return {*value, where_ + ": " + key};
}

}  // namespace gimbal
