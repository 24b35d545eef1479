// Latency and bandwidth of the process group, from timed collectives.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/cost/profile_table.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {

struct LinkSample {
  std::string collective;  // "all_reduce", "all_gather", "broadcast", "reduce_scatter",
                           // "all_to_all", "send_receive" (all ranks to their neighbours)
  double bytes = 0;        // of the whole reduced, gathered, exchanged or sent tensor
  Seconds seconds = 0;     // the best of several
  /// A ring algorithm takes `steps` messages of `step_bytes` one after another.
  double steps = 0;
  double step_bytes = 0;
};

struct LinkMeasurements {
  std::vector<LinkSample> samples;  // empty for one process
  LinkCost link;
  double residual = 0;  // root mean square of (fitted / measured - 1)
};

/// Times all-reduce, all-gather, broadcast, reduce-scatter, all-to-all and send/receive of 4 KiB to
/// `largest_bytes` and fits latency and bandwidth of a link as gimbal/cost/communication.h uses
/// them. Collective; the result is that of rank 0 on all ranks.
LinkMeasurements measure_links(Comm& comm, std::int64_t largest_bytes = std::int64_t{16} << 20);

/// The link that explains the samples best (relative errors, nothing negative).
LinkMeasurements fit_link(std::vector<LinkSample> samples);

/// A table for `num_processes` of which `per_node` share a machine: the group's slowest link was
/// measured. With several machines it stands for links inside a machine, too.
LinkTable link_table(const LinkCost& link, int num_processes, int per_node);

}  // namespace gimbal
