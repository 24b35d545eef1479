// Parameters that lie in one flat buffer, and how the buffer is cut over the ranks of a shard
// group.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/parallel/store.h"

namespace gimbal {

/// [group 0, group 1, ..., padding]: each group's parameters one after another, each at a multiple
/// of 64 bytes. Rank r of the shard group has the values [r, r + 1) * shard_numel().
struct UnitLayout {
  struct Place {
    ParameterPtr parameter;
    std::int64_t offset = 0;
  };
  struct Group {
    int group = 0;
    std::int64_t begin = 0, end = 0;
  };
  std::vector<Place> places;  // by offset
  std::vector<Group> groups;  // by number
  std::int64_t numel = 0;
  int num_shards = 1;

  std::int64_t shard_numel() const { return numel / num_shards; }
};

/// Values between the beginnings of parameters: 64 bytes of the smaller dtype. Every parameter and
/// every shard starts on its own cache line then: vector loads are aligned, matrix products give
/// the same bits wherever the parameter lies, and element-wise kernels the same however it is cut.
std::int64_t unit_alignment(at::ScalarType master, at::ScalarType compute);

UnitLayout make_unit_layout(const std::vector<ParameterPtr>& parameters, const GroupOf& group_of,
                            int num_shards, std::int64_t alignment);

/// The parameter's values in the whole buffer (a view).
at::Tensor view_of(const at::Tensor& whole, const UnitLayout::Place& place);

/// Rank `rank`'s part of each group: views of `values` and `gradients` (undefined: frozen), which
/// are that rank's part of the buffers. Every rank has the same number of them.
std::vector<FlatShard> flat_shards(const UnitLayout& layout, int rank, const std::string& block,
                                   const at::Tensor& values, const at::Tensor& gradients);

}  // namespace gimbal
