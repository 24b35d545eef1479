// What `gimbal doctor` finds out about the processes of a run, and how it prints it.
#pragma once

#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/profile/mesh_links.h"

namespace gimbal::cli {

/// What one rank says about itself.
struct ExaminedRank {
  std::string host;
  std::string device;
  std::string place;  // in the mesh
  /// Name ("program", "libtorch", "recipe", "dataset", "plan") and what has to be the same on all
  /// ranks. A rank has those that it was given and can read.
  std::vector<std::pair<std::string, std::string>> common;
  /// What it could not read.
  std::vector<std::string> problems;
};

Json to_json(const ExaminedRank& facts);
ExaminedRank examined_rank_from(const Json& json);

/// One line per problem: what a rank could not read, what is not the same on all ranks (naming the
/// ranks that differ from most, and those that lack what most have), links that change what they
/// carry.
std::vector<std::string> find_problems(const std::vector<ExaminedRank>& ranks,
                                       const std::vector<MeshLink>& links);

/// The tables of ranks and links for people.
std::string describe_ranks_and_links(const std::vector<ExaminedRank>& ranks,
                                     const std::vector<MeshLink>& links);

}  // namespace gimbal::cli
