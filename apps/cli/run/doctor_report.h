// What `gimbal doctor` finds out about the processes of a run, and how it prints it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/profile/mesh_links.h"

namespace gimbal::cli {

/// What one rank says about itself.
struct ExaminedRank {
  std::string host;
  std::string device;
  std::string place;       // in the mesh
  std::vector<int> cores;  // of its host, by number, that it may run on
  /// Name ("program", "libtorch", "recipe", "dataset", "plan") and what has to be the same on all
  /// ranks. A rank has those that it was given and can read.
  std::vector<std::pair<std::string, std::string>> common;
  /// What it could not read.
  std::vector<std::string> problems;
};

Json to_json(const ExaminedRank& facts);
ExaminedRank examined_rank_from(const Json& json);

/// One line per problem: what a rank could not read, a mesh that does not fit, what is not the same
/// on all ranks (naming the ranks that differ from most, and those that lack what most have).
std::vector<std::string> find_problems(const std::vector<ExaminedRank>& ranks);
/// Of links that change what they carry.
std::vector<std::string> find_link_problems(const std::vector<MeshLink>& links);
/// What makes a run slow: hosts with more processes than cores that these may run on.
std::vector<std::string> find_warnings(const std::vector<ExaminedRank>& ranks);

/// Tables for people; that of the links is empty for one process.
std::string describe_ranks(const std::vector<ExaminedRank>& ranks);
std::string describe_links(const std::vector<MeshLink>& links);
/// The last line: "All is well." only without problems and warnings.
std::string describe_outcome(std::size_t num_problems, std::size_t num_warnings);

}  // namespace gimbal::cli
