// Worker threads that prepare the next batches while the current one is computed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "gimbal/tensor/batch.h"

namespace gimbal {

/// Delivers batches in the order of the requests. At most `depth` batches exist ahead of the
/// consumer, so memory is bounded.
class Prefetcher {
 public:
  /// `next_request` is called from one thread at a time, in order; it returns false when nothing
  /// follows.
  using NextRequest = std::function<bool(std::vector<std::uint32_t>& samples)>;

  /// `tiles`: as for collate. `target`: where the batches go next; for an accelerator they are made
  /// in page-locked memory, from which to_device copies without waiting.
  Prefetcher(const Dataset& dataset, const ImageProcessor& processor, int num_workers, int depth,
             NextRequest next_request, TileChoice tiles = all_tiles,
             const at::Device& target = at::kCPU);
  ~Prefetcher();

  /// The next batch, or an exception of its preparation. Waits when it is not ready. False at the
  /// end.
  bool next(Batch& batch);
  /// Seconds that next() has waited since the last call of this function.
  double take_wait_seconds();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gimbal
