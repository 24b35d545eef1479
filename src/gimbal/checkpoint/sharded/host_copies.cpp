#include "gimbal/checkpoint/sharded/host_copies.h"

#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <optional>

namespace gimbal {
namespace {

constexpr std::int64_t kCopyAlign = 64;  // bytes

std::int64_t aligned_bytes(const at::Tensor& values) {
  return (static_cast<std::int64_t>(values.nbytes()) + kCopyAlign - 1) / kCopyAlign * kCopyAlign;
}

}  // namespace

void HostCopies::take(RankPieces& pieces) {
  std::int64_t pinned_bytes = 0;
  for (auto* list : {&pieces.parameters, &pieces.optimizer}) {
    for (const PlacedPiece& piece : *list)
      if (!piece.values.is_cpu()) pinned_bytes += aligned_bytes(piece.values);
  }
  if (pinned_bytes > 0 && (!pinned_.defined() || pinned_.numel() < pinned_bytes))
    pinned_ = at::empty({pinned_bytes}, at::TensorOptions().dtype(at::kByte).pinned_memory(true));

  std::int64_t used = 0;
  std::optional<at::Device> device;
  for (auto* list : {&pieces.parameters, &pieces.optimizer}) {
    for (PlacedPiece& piece : *list) {
      if (piece.values.is_cpu()) {
        piece.values = piece.values.clone();
        continue;
      }
      device = piece.values.device();
      const at::Tensor copy =
          pinned_.narrow(0, used, static_cast<std::int64_t>(piece.values.nbytes()))
              .view(piece.values.scalar_type());
      used += aligned_bytes(piece.values);
      copy.copy_(piece.values, /*non_blocking=*/true);
      piece.values = copy;
    }
  }
  if (!device) return;
  const c10::impl::VirtualGuardImpl guard(device->type());
  guard.synchronizeStream(guard.getStream(*device));
}

}  // namespace gimbal
