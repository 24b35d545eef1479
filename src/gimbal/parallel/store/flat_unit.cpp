#include "gimbal/parallel/store/flat_unit.h"

#include <algorithm>
#include <map>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::int64_t kAlignBytes = 64;

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace

std::int64_t unit_alignment(at::ScalarType master, at::ScalarType compute) {
  return kAlignBytes /
         static_cast<std::int64_t>(std::min(c10::elementSize(master), c10::elementSize(compute)));
}

UnitLayout make_unit_layout(const std::vector<ParameterPtr>& parameters, const GroupOf& group_of,
                            int num_shards, std::int64_t alignment) {
  std::map<int, std::vector<ParameterPtr>> groups;
  for (const ParameterPtr& parameter : parameters) {
    groups[group_of(*parameter)].push_back(parameter);
  }
  UnitLayout layout;
  layout.num_shards = num_shards;
  for (const auto& [group, members] : groups) {
    const std::int64_t begin = layout.numel;
    for (const ParameterPtr& parameter : members) {
      layout.places.push_back({parameter, layout.numel});
      layout.numel += round_up(parameter->numel(), alignment);
    }
    layout.groups.push_back({group, begin, layout.numel});
  }
  layout.numel = round_up(layout.numel, alignment * num_shards);
  return layout;
}

at::Tensor view_of(const at::Tensor& whole, const UnitLayout::Place& place) {
  return whole.narrow(0, place.offset, place.parameter->numel()).view(place.parameter->shape);
}

std::vector<FlatShard> flat_shards(const UnitLayout& layout, int rank, const std::string& block,
                                   const at::Tensor& values, const at::Tensor& gradients) {
  GIMBAL_CHECK_EQ(values.numel(), layout.shard_numel());
  const std::int64_t own_begin = rank * layout.shard_numel();
  const std::int64_t own_end = own_begin + layout.shard_numel();
  std::vector<FlatShard> shards;
  for (const UnitLayout::Group& group : layout.groups) {
    const std::int64_t begin = std::clamp(group.begin, own_begin, own_end);
    const std::int64_t end = std::clamp(group.end, own_begin, own_end);
    FlatShard shard;
    shard.block = block;
    shard.group = group.group;
    shard.values = values.narrow(0, begin - own_begin, end - begin);
    if (gradients.defined()) shard.gradients = gradients.narrow(0, begin - own_begin, end - begin);
    for (const UnitLayout::Place& place : layout.places) {
      const std::int64_t first = std::max(place.offset, begin);
      const std::int64_t last = std::min(place.offset + place.parameter->numel(), end);
      if (first >= last) continue;
      shard.slices.push_back({place.parameter, first - begin, first - place.offset, last - first});
    }
    shards.push_back(std::move(shard));
  }
  return shards;
}

}  // namespace gimbal
