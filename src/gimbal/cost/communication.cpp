#include "gimbal/cost/communication.h"

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// n - 1 messages one after another, of 1/n of the bytes each.
Seconds ring_pass(const LinkCost& link, int ranks, Bytes bytes) {
  GIMBAL_CHECK(ranks >= 1, "a group of ", ranks, " ranks");
  return (ranks - 1) * link.seconds(bytes / ranks);
}

}  // namespace

const LinkCost& group_link(const LinkTable& links, int ranks, int stride) {
  GIMBAL_CHECK(ranks >= 1 && stride >= 1, "a group of ", ranks, " ranks, stride ", stride);
  const int devices = ranks * stride;
  // Groups start at multiples of `devices`: all of them stay inside a node when it holds a whole
  // number of groups, otherwise at least one lies across two nodes.
  const bool inside = devices <= links.devices_per_node && links.devices_per_node % devices == 0;
  return ranks == 1 || inside ? links.inside_node : links.between_nodes;
}

Seconds all_gather_seconds(const LinkCost& link, int ranks, Bytes bytes) {
  return ring_pass(link, ranks, bytes);
}

Seconds reduce_scatter_seconds(const LinkCost& link, int ranks, Bytes bytes) {
  return ring_pass(link, ranks, bytes);
}

Seconds all_reduce_seconds(const LinkCost& link, int ranks, Bytes bytes) {
  return reduce_scatter_seconds(link, ranks, bytes) + all_gather_seconds(link, ranks, bytes);
}

Seconds all_to_all_seconds(const LinkCost& link, int ranks, Bytes bytes) {
  return ring_pass(link, ranks, bytes);
}

}  // namespace gimbal
