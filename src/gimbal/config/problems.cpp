#include "gimbal/config/problems.h"

#include <algorithm>

#include "gimbal/base/error.h"
#include "gimbal/config/visit.h"

namespace gimbal {
namespace {

std::string last_part(const std::string& key) {
  const std::size_t dot = key.rfind('.');
  return dot == std::string::npos ? key : key.substr(dot + 1);
}

std::string join_words(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

template <typename S>
void collect_keys(const S& self, const std::string& prefix, std::vector<std::string>& keys) {
  visit(self, [&]<typename T>(const char* name, const T& field, const char*) {
    if constexpr (Visited<T>) {
      collect_keys(field, prefix + name + ".", keys);
    } else {
      keys.push_back(prefix + name);
    }
  });
}

}  // namespace

void Problems::add(const std::string& place, const std::string& key, const std::string& text) {
  std::string line = place + ": " + (key.empty() ? "" : key + ": ") + text;
  if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) {
    lines_.push_back(std::move(line));
  }
}

void Problems::add_unknown_key(const std::string& place, const std::string& prefix,
                               const std::string& key, const std::vector<std::string>& valid) {
  // First the section itself, then the same name in another section ("lr" -> "optimizer.lr"), then
  // any key.
  const std::size_t dot = key.rfind('.');
  const std::string section = dot == std::string::npos ? "" : key.substr(0, dot + 1);
  std::string meant = nearest(last_part(key), valid);
  if (!meant.empty()) meant = section + meant;
  for (const std::string& other : all_keys()) {
    if (meant.empty() && last_part(other) == last_part(key)) meant = other;
  }
  if (meant.empty()) meant = nearest(key, all_keys());
  add(place, prefix + key,
      meant.empty() ? "unknown key; valid here: " + join_words(valid)
                    : "unknown key; did you mean " + prefix + meant + "?");
}

void Problems::throw_if_any() const {
  if (lines_.empty()) return;
  std::string message = lines_.size() == 1 ? std::string("the recipe has a problem:")
                                           : concat("the recipe has ", lines_.size(), " problems:");
  for (const std::string& line : lines_) message += "\n  " + line;
  throw UserError(message);
}

std::size_t edit_distance(const std::string& a, const std::string& b) {
  // rows[i % 3]: distances from the first i characters of a to each beginning of b.
  std::vector<std::size_t> rows[3];
  for (auto& row : rows) row.resize(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    auto& row = rows[i % 3];
    const auto& above = rows[(i + 2) % 3];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], rows[(i + 1) % 3][j - 2] + 1);
      }
    }
  }
  return rows[a.size() % 3][b.size()];
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  // About one edit in three characters; beyond that a suggestion is noise.
  std::size_t limit = std::max<std::size_t>(1, (word.size() + 1) / 3) + 1;
  for (const std::string& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < limit && distance < candidate.size()) {
      limit = distance;
      best = candidate;
    }
  }
  return best;
}

const std::vector<std::string>& all_keys() {
  static const std::vector<std::string> keys = [] {
    std::vector<std::string> collected;
    collect_keys(Recipe{}, "", collected);
    return collected;
  }();
  return keys;
}

}  // namespace gimbal
