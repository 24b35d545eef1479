#include "gimbal/parallel/ports.h"

#include "gimbal/base/error.h"

namespace gimbal {

Ports make_mesh_ports(Comm& tp, Comm& sp, Comm& pack) {
  GIMBAL_CHECK_EQ(pack.size(), sp.size() * tp.size());
  GIMBAL_CHECK_EQ(pack.rank(), sp.rank() * tp.size() + tp.rank());
  Ports ports = local_ports();
  if (pack.size() > 1) ports.sequence = make_pack_sequence(sp, pack);
  if (tp.size() > 1) {
    ports.linear = make_tensor_linear(tp);
    ports.vocab = make_vocab_reduce(tp);
  }
  return ports;
}

}  // namespace gimbal
