#include "gimbal/config/mesh_shape.h"

#include <initializer_list>

#include "gimbal/base/error.h"

namespace gimbal {

std::string to_string(const MeshShape& mesh) {
  std::string text;
  visit_axes(mesh, [&](const char* name, int size) {
    if (size != 1) text += concat(text.empty() ? "" : ", ", name, " ", size);
  });
  return text.empty() ? "1 device" : text;
}

namespace {

/// `axes`: for the message.
std::int64_t product_of_sizes(std::initializer_list<std::int64_t> sizes, const std::string& axes) {
  std::int64_t product = 1;
  for (const std::int64_t size : sizes) {
    GIMBAL_CHECK(size >= 1, "an axis of ", size);
    // Before the product, which might not fit into its type.
    GIMBAL_USER_CHECK(size <= kMostDevices / product, axes, " makes more than ", kMostDevices,
                      " processes; lower one of them");
    product *= size;
  }
  return product;
}

}  // namespace

MeshShape mesh_of_processes(const ParallelConfig& config, int world_size) {
  const std::string axes = concat("parallel: pp ", config.pp, " x dp_shard ", config.dp_shard,
                                  " x sp ", config.sp, " x tp ", config.tp);
  const std::int64_t others =
      product_of_sizes({config.pp, config.dp_shard, config.sp, config.tp}, axes);
  std::int64_t replicate = config.dp_replicate;
  if (replicate == 0) {
    GIMBAL_USER_CHECK(world_size % others == 0, axes, " is ", others,
                      ", which does not divide the ", world_size,
                      world_size == 1 ? " process" : " processes", " of this run. Start ", others,
                      " (--nproc ", others, ") or a multiple of that, or change an axis.");
    replicate = world_size / others;
  }
  product_of_sizes({others, replicate}, concat(axes, " x dp_replicate ", replicate));
  GIMBAL_USER_CHECK(replicate * others == world_size, axes, " x dp_replicate ", replicate, " is ",
                    replicate * others, " processes, but this run has ", world_size,
                    ". Start it with --nproc ", replicate * others,
                    ", or leave parallel.dp_replicate at 0.");
  return {static_cast<int>(config.pp), static_cast<int>(replicate),
          static_cast<int>(config.dp_shard), static_cast<int>(config.sp),
          static_cast<int>(config.tp)};
}

std::string heads_objection(const HeadCounts& heads, std::int64_t tp, std::int64_t sp) {
  const std::int64_t ranks = tp * sp;
  const std::string product = concat("tp ", tp, " x sp ", sp, " = ", ranks);
  if (heads.text % ranks != 0) {
    return concat(product, " does not divide the text model's ", heads.text,
                  " attention heads; choose tp and sp so that tp x sp is a divisor of ",
                  heads.text);
  }
  if (heads.text_kv > 0 && heads.text_kv % ranks != 0 && ranks % heads.text_kv != 0) {
    return concat(product, " and the text model's ", heads.text_kv,
                  " key-value heads do not divide one another; choose tp and sp so that tp x sp "
                  "is a divisor or a multiple of ",
                  heads.text_kv);
  }
  if (heads.vision > 0 && tp > heads.vision) {
    return concat("tp ", tp, " is above the vision tower's ", heads.vision,
                  " attention heads (at sp ", sp, "); choose tp of at most ", heads.vision);
  }
  return "";
}

}  // namespace gimbal
