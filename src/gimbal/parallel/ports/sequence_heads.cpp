#include "gimbal/parallel/ports/sequence_heads.h"

#include <numeric>

#include "gimbal/base/error.h"
#include "gimbal/nn/row_split.h"

namespace gimbal {
namespace {

// Whether groups of `size` neighbours from the first on use one kv head each.
bool groups_share(const HeadList& kv_of_query, std::int64_t size) {
  for (std::size_t i = 0; i < kv_of_query.size(); ++i)
    if (kv_of_query[i] != kv_of_query[i - i % static_cast<std::size_t>(size)]) return false;
  return true;
}

}  // namespace

std::vector<HeadList> query_heads_of_parts(std::int64_t num_heads, int parts) {
  const RowSplit cut = split_rows(num_heads, parts, 0);
  std::vector<HeadList> heads;
  for (int part = 0; part < parts; ++part) {
    heads.emplace_back(static_cast<std::size_t>(cut.size(part)));
    std::iota(heads.back().begin(), heads.back().end(), cut.begin(part));
  }
  return heads;
}

std::vector<HeadList> kv_heads_of_parts(std::int64_t num_kv_heads, std::int64_t num_heads,
                                        int parts) {
  GIMBAL_CHECK(num_kv_heads > 0 ? num_heads % num_kv_heads == 0 : num_heads == 0, "", num_heads,
               " query heads on ", num_kv_heads, " kv heads");
  std::vector<HeadList> result;
  for (HeadList kv_of_query : query_heads_of_parts(num_heads, parts)) {
    for (std::int64_t& head : kv_of_query) head = head * num_kv_heads / num_heads;
    const auto count = static_cast<std::int64_t>(kv_of_query.size());
    std::int64_t group = count;
    while (group > 1 && (count % group != 0 || !groups_share(kv_of_query, group))) --group;
    HeadList kv;
    for (std::int64_t i = 0; i < count; i += group)
      kv.push_back(kv_of_query[static_cast<std::size_t>(i)]);
    result.push_back(std::move(kv));
  }
  return result;
}

std::vector<HeadRun> head_runs(const HeadList& heads) {
  std::vector<HeadRun> runs;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    if (!runs.empty() && heads[i] == runs.back().head + runs.back().count)
      ++runs.back().count;
    else
      runs.push_back({static_cast<std::int64_t>(i), heads[i], 1});
  }
  return runs;
}

}  // namespace gimbal
