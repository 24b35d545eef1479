// The models' ports over process groups.
#pragma once

#include "gimbal/nn/ports.h"
#include "gimbal/parallel/comm.h"

namespace gimbal {

/// Ports of this rank. `pack` has sp.size() x tp.size() ranks: sequence part by sequence part, each
/// with its tp ranks. Local ones where a group has one rank. The groups must live as long as the
/// ports and everything computed with them that has gradients.
Ports make_mesh_ports(Comm& tp, Comm& sp, Comm& pack);

/// The single ports; each group has more than one rank, except `sp`.
std::shared_ptr<const SequenceExchange> make_pack_sequence(Comm& sp, Comm& pack);
std::shared_ptr<const LinearComm> make_tensor_linear(Comm& tp);
std::shared_ptr<const VocabReduce> make_vocab_reduce(Comm& tp);

}  // namespace gimbal
