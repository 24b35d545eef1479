// What a run says when ranks of a machine talk to each other through TCP.
#pragma once

#include <string>
#include <vector>

namespace gimbal {

/// Of one rank.
struct RankTransport {
  std::string host;
  std::string trouble;  // CommWorld::shared_memory_trouble
};

/// A sentence for each trouble that ranks have, naming them and their hosts, and what to do.
/// `ranks` are all of the launch.
std::vector<std::string> transport_warnings(const std::vector<RankTransport>& ranks);

}  // namespace gimbal
