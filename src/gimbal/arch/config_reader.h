// Checked reading of a config.json's keys: every message names the file and the key.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/base/json.h"

namespace gimbal {

/// One object of a config.json. Keys that are absent or null have the fallback; keys that are never
/// asked for do not matter. The object must outlive the reader.
class ConfigReader {
 public:
  /// `where`: file and place in it. Throws UserError when `object` is no object.
  ConfigReader(const Json& object, std::string where);

  const std::string& where() const { return where_; }
  /// Whether the key is there and not null.
  bool has(const std::string& key) const;
  /// Whether the key is there, null or not: for keys whose null is no default.
  bool has_key(const std::string& key) const { return object_->contains(key); }

  /// A whole number of at least 1.
  std::int64_t count(const std::string& key, std::int64_t fallback) const;
  /// As count; `other` is another name of the same key. Throws UserError when both are given and
  /// differ.
  std::int64_t count(const std::string& key, const std::string& other, std::int64_t fallback) const;
  /// A number of layers: as count, at most 10,000 (each becomes a block).
  std::int64_t layers(const std::string& key, std::int64_t fallback) const;
  std::int64_t layers(const std::string& key, const std::string& other,
                      std::int64_t fallback) const;
  /// Any whole number.
  std::int64_t integer(const std::string& key, std::int64_t fallback) const;
  double number(const std::string& key, double fallback) const;
  bool flag(const std::string& key, bool fallback) const;
  std::string word(const std::string& key, const std::string& fallback) const;
  /// A count, or two equal ones (the sides of a square).
  std::int64_t side(const std::string& key, std::int64_t fallback) const;
  /// A list of strings; empty when absent.
  std::vector<std::string> words(const std::string& key) const;
  /// Whole numbers of at least 0 and below `end`, in rising order, none twice.
  std::vector<std::int64_t> indices(const std::string& key,
                                    const std::vector<std::int64_t>& fallback,
                                    std::int64_t end) const;
  /// The object under the key; an empty one when it is absent.
  ConfigReader part(const std::string& key) const;

  /// Throws UserError with the place, the key and `problem`.
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const;

 private:
  const Json* find(const std::string& key) const;

  const Json* object_;
  std::string where_;
};

}  // namespace gimbal
