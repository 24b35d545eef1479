// Collects everything that is wrong with a recipe, so that the user sees all of it at once.
#pragma once

#include <string>
#include <vector>

namespace gimbal {

class Problems {
 public:
  /// `place`: "recipe.yaml:3:5" or "command line". The same problem twice is kept once.
  void add(const std::string& place, const std::string& key, const std::string& text);

  /// A key that no struct has. Names the nearest key of the whole recipe, or else the keys of its
  /// section (`prefix` is what the user sees before `key`, such as "stages.align."; `valid` are the
  /// names in the section).
  void add_unknown_key(const std::string& place, const std::string& prefix, const std::string& key,
                       const std::vector<std::string>& valid);

  bool empty() const { return lines_.empty(); }
  /// Throws one UserError with all problems, if there are any.
  void throw_if_any() const;

 private:
  std::vector<std::string> lines_;
};

/// Edits (insert, delete, replace, swap of neighbours) from one text to the other (optimal string
/// alignment distance).
std::size_t edit_distance(const std::string& a, const std::string& b);

/// The candidate with the fewest edits; empty when none is near enough to be meant.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

/// All keys of a recipe, dotted, without sections: "optimizer.lr".
const std::vector<std::string>& all_keys();

}  // namespace gimbal
