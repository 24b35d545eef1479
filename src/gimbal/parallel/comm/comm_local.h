// Which ranks are processes of this machine, and the memory that they share. Included by comm_*.cpp
// only.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace gimbal {

struct CommGroup;
struct CommState;
class LocalGroup;
class LocalHub;

/// This rank's machine.
struct LocalMachine {
  std::vector<int> ranks;         // of the launch, this one included
  std::shared_ptr<LocalHub> hub;  // of all of them; null: messages go through the network
  /// Why its processes, or the first group of them that was refused it, share no memory; empty:
  /// they do, this is the only one, or it wants none.
  std::string trouble;
};

/// Who is here. Collective over all ranks. What a system does not allow is no error: all ranks of
/// the machine agree to do without, and each has the reason.
LocalMachine find_local_machine(const CommState& state);

/// The group's memory; null when some of its ranks are elsewhere, or when there is none to be had:
/// the reason is then the machine's trouble, on all ranks of the group. Collective over the group.
std::shared_ptr<LocalGroup> make_local_group(const CommGroup& group);

}  // namespace gimbal
