#include "gimbal/balance/patterns/types.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <queue>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

// Samples that the tree is built from; the bounds of the types are taken from all.
constexpr std::size_t kBuildSamples = 1 << 18;

struct SizeCount {
  std::uint32_t first;  // index of its cells
  double count;
};

// Splits a range of distinct sizes again and again.
class TreeBuilder {
 public:
  TreeBuilder(const PackLimits& limits, std::span<const std::uint32_t> order,
              std::span<const std::uint64_t> units)
      : num_limits_(static_cast<std::size_t>(limits.count())), units_(units.begin(), units.end()) {
    collect(limits, order);
    weigh(limits);
  }

  TypeTree build(std::size_t max_types) {
    tree_.num_limits = static_cast<int>(num_limits_);
    tree_.nodes.push_back({-1, 0, 0, 0});
    push(0, 0, sizes_.size());
    std::size_t types = 1;
    while (!queue_.empty() && types < max_types) {
      const Box box = queue_.top();
      queue_.pop();
      split(box);
      ++types;
    }
    std::uint32_t type = 0;
    for (TypeTree::Node& node : tree_.nodes) {
      if (node.limit < 0) node.left = type++;
    }
    return std::move(tree_);
  }

 private:
  struct Box {
    double saved;  // by the best split
    std::uint32_t node;
    std::size_t begin, end;
    std::size_t limit;
    std::uint64_t cell;  // the left half's highest
    bool operator<(const Box& other) const {
      return saved != other.saved ? saved < other.saved : node > other.node;
    }
  };

  std::uint64_t cell(const SizeCount& size, std::size_t limit) const {
    return cells_[size.first + limit];
  }

  // Distinct sizes, in units, with their numbers.
  void collect(const PackLimits& limits, std::span<const std::uint32_t> order) {
    const std::size_t used = std::min(order.size(), kBuildSamples);
    cells_.resize(used * num_limits_);
    std::vector<std::uint32_t> rows(used);
    for (std::size_t i = 0; i < used; ++i) {
      for (std::size_t l = 0; l < num_limits_; ++l) {
        const std::uint64_t demand = limits.demand(order[i], static_cast<int>(l));
        cells_[i * num_limits_ + l] = demand / units_[l] + (demand % units_[l] != 0 ? 1 : 0);
      }
      rows[i] = static_cast<std::uint32_t>(i * num_limits_);
    }
    const auto less = [&](std::uint32_t a, std::uint32_t b) {
      return std::lexicographical_compare(cells_.begin() + a, cells_.begin() + a + num_limits(),
                                          cells_.begin() + b, cells_.begin() + b + num_limits());
    };
    std::sort(rows.begin(), rows.end(), less);
    for (const std::uint32_t row : rows) {
      if (sizes_.empty() || less(sizes_.back().first, row)) sizes_.push_back({row, 0});
      sizes_.back().count += 1;
    }
  }

  std::ptrdiff_t num_limits() const { return static_cast<std::ptrdiff_t>(num_limits_); }

  // A limit weighs by the share of its cap that the samples use: waste in a limit that never binds
  // costs nothing.
  void weigh(const PackLimits& limits) {
    std::vector<double> use(num_limits_);
    for (const SizeCount& size : sizes_) {
      for (std::size_t l = 0; l < num_limits_; ++l) {
        use[l] += size.count * static_cast<double>(cell(size, l) * units_[l]) /
                  static_cast<double>(limits.cap(static_cast<int>(l)));
      }
    }
    const double most = *std::max_element(use.begin(), use.end());
    for (std::size_t l = 0; l < num_limits_; ++l) {
      const double scarce = most > 0 ? use[l] / most : 0;
      weights_.push_back(scarce * scarce * scarce * static_cast<double>(units_[l]) /
                         static_cast<double>(limits.cap(static_cast<int>(l))));
    }
  }

  // Cost of rounding the sizes up to their largest.
  struct Scan {
    std::vector<std::uint64_t> high;
    std::vector<double> sum;
    double count = 0;
  };
  double waste(const Scan& scan) const {
    double total = 0;
    for (std::size_t l = 0; l < num_limits_; ++l) {
      total += weights_[l] * (static_cast<double>(scan.high[l]) * scan.count - scan.sum[l]);
    }
    return total;
  }
  void take(Scan& scan, const SizeCount& size) const {
    for (std::size_t l = 0; l < num_limits_; ++l) {
      scan.high[l] = std::max(scan.high[l], cell(size, l));
      scan.sum[l] += size.count * static_cast<double>(cell(size, l));
    }
    scan.count += size.count;
  }
  Scan empty_scan() const {
    return {std::vector<std::uint64_t>(num_limits_), std::vector<double>(num_limits_), 0};
  }

  void sort_by(std::size_t limit, std::size_t begin, std::size_t end) {
    std::sort(sizes_.begin() + static_cast<std::ptrdiff_t>(begin),
              sizes_.begin() + static_cast<std::ptrdiff_t>(end),
              [&](const SizeCount& a, const SizeCount& b) {
                if (cell(a, limit) != cell(b, limit)) return cell(a, limit) < cell(b, limit);
                return a.first < b.first;
              });
  }

  // Finds the box's best split and queues it, unless all its sizes are equal.
  void push(std::uint32_t node, std::size_t begin, std::size_t end) {
    Box best{-1, node, begin, end, 0, 0};
    std::vector<double> after(end - begin);
    for (std::size_t limit = 0; limit < num_limits_; ++limit) {
      sort_by(limit, begin, end);
      Scan right = empty_scan();
      for (std::size_t i = end; i-- > begin;) {
        take(right, sizes_[i]);
        after[i - begin] = waste(right);
      }
      const double whole = after.empty() ? 0 : after[0];
      Scan left = empty_scan();
      for (std::size_t i = begin; i + 1 < end; ++i) {
        take(left, sizes_[i]);
        if (cell(sizes_[i], limit) == cell(sizes_[i + 1], limit)) continue;
        const double saved = whole - waste(left) - after[i + 1 - begin];
        if (saved > best.saved) {
          best.saved = saved;
          best.limit = limit;
          best.cell = cell(sizes_[i], limit);
        }
      }
    }
    if (best.saved >= 0) queue_.push(best);
  }

  void split(const Box& box) {
    const auto left = static_cast<std::uint32_t>(tree_.nodes.size());
    tree_.nodes[box.node] = {static_cast<std::int32_t>(box.limit), left, left + 1,
                             box.cell * units_[box.limit]};
    tree_.nodes.push_back({-1, 0, 0, 0});
    tree_.nodes.push_back({-1, 0, 0, 0});
    sort_by(box.limit, box.begin, box.end);
    std::size_t middle = box.begin;
    while (cell(sizes_[middle], box.limit) <= box.cell) ++middle;
    push(left, box.begin, middle);
    push(left + 1, middle, box.end);
  }

  std::size_t num_limits_;
  std::vector<std::uint64_t> units_;
  std::vector<std::uint64_t> cells_;
  std::vector<SizeCount> sizes_;
  std::vector<double> weights_;
  std::priority_queue<Box> queue_;
  TypeTree tree_;
};

}  // namespace

std::uint32_t TypeTree::type_of(const PackLimits& limits, std::uint32_t sample) const {
  std::uint32_t node = 0;
  while (nodes[node].limit >= 0) {
    const Node& here = nodes[node];
    node = limits.demand(sample, here.limit) <= here.threshold ? here.left : here.right;
  }
  return nodes[node].left;
}

TypeTree build_types(const PackLimits& limits, std::span<const std::uint32_t> order,
                     std::span<const std::uint64_t> units, std::size_t max_types) {
  GIMBAL_CHECK(max_types <= std::numeric_limits<std::uint16_t>::max());
  GIMBAL_CHECK(!order.empty());
  TypeTree tree = TreeBuilder(limits, order, units).build(max_types);
  const auto num_limits = static_cast<std::size_t>(limits.count());
  const std::size_t num_types = (tree.nodes.size() + 1) / 2;
  tree.low.assign(num_types * num_limits, std::numeric_limits<std::uint64_t>::max());
  tree.high.assign(num_types * num_limits, 0);
  for (const std::uint32_t sample : order) {
    const std::size_t row = tree.type_of(limits, sample) * num_limits;
    for (std::size_t l = 0; l < num_limits; ++l) {
      const std::uint64_t demand = limits.demand(sample, static_cast<int>(l));
      tree.low[row + l] = std::min(tree.low[row + l], demand);
      tree.high[row + l] = std::max(tree.high[row + l], demand);
    }
  }
  return tree;
}

TypedOrder type_samples(const TypeTree& tree, const PackLimits& limits,
                        std::span<const std::uint32_t> order) {
  TypedOrder typed;
  typed.types.resize(order.size());
  typed.demand.resize(tree.num_types());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint32_t type = tree.type_of(limits, order[i]);
    typed.types[i] = static_cast<std::uint16_t>(type);
    ++typed.demand[type];
  }
  return typed;
}

double rounding_loss(const TypeTree& tree, std::span<const std::uint64_t> demand,
                     const PackLimits& limits, std::span<const std::uint32_t> order) {
  double rounded = 0, real = 0;
  const auto dims = static_cast<std::size_t>(limits.count());
  for (std::size_t d = 0; d < dims; ++d) {
    const auto cap = static_cast<double>(limits.cap(static_cast<int>(d)));
    double up = 0, exact = 0;
    for (std::size_t t = 0; t < demand.size(); ++t)
      up += static_cast<double>(tree.high[t * dims + d]) * static_cast<double>(demand[t]);
    for (const std::uint32_t sample : order)
      exact += static_cast<double>(limits.demand(sample, static_cast<int>(d)));
    rounded = std::max(rounded, up / cap);
    real = std::max(real, exact / cap);
  }
  return real > 0 ? rounded / real - 1 : 0;
}

}  // namespace gimbal
