// Environment variables of a launcher as text and numbers, with errors that name them.
#pragma once

#include <optional>
#include <string>

#include "gimbal/parallel/launch.h"

namespace gimbal {

class LaunchVariables {
 public:
  explicit LaunchVariables(const GetVariable& get) : get_(get) {}

  /// An empty variable counts as not set.
  std::optional<std::string> text(const std::string& name) const;
  /// Throws UserError when the variable holds no number.
  std::optional<int> number(const std::string& name) const;
  /// Throw UserError when `name` is not set, though `because` is.
  std::string required_text(const std::string& name, const std::string& because) const;
  int required_number(const std::string& name, const std::string& because) const;

 private:
  const GetVariable& get_;
};

/// A port below the range that systems hand out by themselves; equal on all processes of a job.
int port_of_job(const std::string& job);

}  // namespace gimbal
