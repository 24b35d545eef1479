// One object of a JSON file, read key by key: what is unknown, missing or of the wrong type is an
// error that names file and key.
#pragma once

#include <string>
#include <vector>

#include "gimbal/base/json.h"

namespace gimbal {

class JsonFields {
 public:
  /// `where`: the file. `path`: of the object in it, "blocks.text_layer"; empty for the whole.
  /// `known`: all keys that it may have. Throws UserError for others, with the nearest known one,
  /// and when `json` is not an object. `json` must outlive this.
  JsonFields(const Json& json, std::string where, std::string path, std::vector<std::string> known);

  bool has(const std::string& key) const { return json_.contains(key); }
  /// Any finite number that is not negative.
  double number(const std::string& key) const;
  /// A number above 0.
  double positive(const std::string& key) const;
  /// A whole number of at least 1.
  int count(const std::string& key) const;
  std::string text(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;
  const Json& value(const std::string& key) const;
  /// The object of `key`, which may have the keys `known`.
  JsonFields object(const std::string& key, std::vector<std::string> known) const;
  /// The object of `key`, whatever its keys.
  const Json& any_object(const std::string& key) const;

  const std::string& where() const { return where_; }
  /// "blocks.text_layer.forward", for messages.
  std::string full_key(const std::string& key) const;
  /// Throws UserError: file, key, text.
  [[noreturn]] void fail(const std::string& key, const std::string& text) const;

 private:
  const Json& json_;
  std::string where_, path_;
};

}  // namespace gimbal
