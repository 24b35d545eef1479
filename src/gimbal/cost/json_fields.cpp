#include "gimbal/cost/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "gimbal/config/problems.h"

namespace gimbal {
namespace {

std::string comma_list(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

}  // namespace

JsonFields::JsonFields(const Json& json, std::string where, std::string path,
                       std::vector<std::string> known)
    : json_(json), where_(std::move(where)), path_(std::move(path)) {
  GIMBAL_USER_CHECK(json_.is_object(), where_, ": ",
                    path_.empty() ? std::string("the file") : "key '" + path_ + "'",
                    " has to be an object, not ", json_.type_name());
  for (const auto& item : json_.items()) {
    if (std::find(known.begin(), known.end(), item.key()) != known.end()) continue;
    const std::string meant = nearest(item.key(), known);
    fail(item.key(), meant.empty() ? "is unknown; valid here: " + comma_list(known)
                                   : "is unknown; did you mean '" + full_key(meant) + "'?");
  }
}

std::string JsonFields::full_key(const std::string& key) const {
  return path_.empty() ? key : path_ + "." + key;
}

void JsonFields::fail(const std::string& key, const std::string& text) const {
  throw UserError(concat(where_, ": key '", full_key(key), "' ", text));
}

const Json& JsonFields::value(const std::string& key) const {
  const auto it = json_.find(key);
  if (it == json_.end()) fail(key, "is missing");
  return *it;
}

double JsonFields::number(const std::string& key) const {
  const Json& json = value(key);
  if (!json.is_number()) fail(key, concat("has to be a number, not ", json.type_name()));
  const double number = json.get<double>();
  if (!std::isfinite(number) || number < 0)
    fail(key, concat("has to be a finite number of at least 0, not ", number));
  return number;
}

double JsonFields::positive(const std::string& key) const {
  const double result = number(key);
  if (result <= 0) fail(key, "has to be above 0");
  return result;
}

int JsonFields::count(const std::string& key) const {
  const double result = number(key);
  if (result < 1 || result != std::floor(result) || result > std::numeric_limits<int>::max())
    fail(key, concat("has to be a whole number of at least 1, not ", result));
  return static_cast<int>(result);
}

std::string JsonFields::text(const std::string& key) const {
  const Json& json = value(key);
  if (!json.is_string()) fail(key, concat("has to be a text, not ", json.type_name()));
  return json.get<std::string>();
}

std::vector<std::string> JsonFields::texts(const std::string& key) const {
  const Json& json = value(key);
  const bool is_list = json.is_array() && std::all_of(json.begin(), json.end(),
                                                      [](const Json& v) { return v.is_string(); });
  if (!is_list) fail(key, "has to be a list of texts");
  return json.get<std::vector<std::string>>();
}

JsonFields JsonFields::object(const std::string& key, std::vector<std::string> known) const {
  return JsonFields(value(key), where_, full_key(key), std::move(known));
}

const Json& JsonFields::any_object(const std::string& key) const {
  const Json& json = value(key);
  if (!json.is_object()) fail(key, concat("has to be an object, not ", json.type_name()));
  return json;
}

}  // namespace gimbal
