// OmniBal's iterative sampling and filtering (arXiv 2407.20761, Algorithm 1), as the paper states
// it. What its public implementation does beside that is not reproduced: a sample that is lost when
// the last one of the pool does not fit, a threshold that must be met exactly, a last round that is
// computed twice, rounds that share random numbers, no stop when the pool is empty. Samples above a
// cap are no matter here: screen_samples lists them before.
#include <vector>

#include "gimbal/balance/pack/methods.h"
#include "gimbal/base/error.h"

namespace gimbal {
namespace {

constexpr std::uint64_t kLongCap = 1024;
constexpr std::uint64_t kLongCapMargin = 128;

class IterativeFilter {
 public:
  IterativeFilter(const PackLimits& limits, const IsfOptions& options,
                  std::span<const std::uint32_t> order)
      : limits_(limits),
        num_limits_(static_cast<std::size_t>(limits.count())),
        accept_(options.accept),
        fill_(num_limits_),
        sample_(num_limits_),
        pool_(order.begin(), order.end()) {
    accept_.resize(num_limits_, 0);
    for (std::size_t l = 0; l < num_limits_; ++l) {
      const std::uint64_t cap = limits.cap(static_cast<int>(l));
      if (accept_[l] == 0) accept_[l] = cap >= kLongCap ? cap - kLongCapMargin : cap;
    }
    packs_.samples.reserve(order.size());
  }

  Packs run(int rounds, const CounterRng& rng) {
    for (int round = 0; round < rounds && !pool_.empty(); ++round) {
      const CounterRng draws(rng.bits(static_cast<std::uint64_t>(round)));
      for (std::size_t i = pool_.size(); i > 1; --i) {
        std::swap(pool_[i - 1], pool_[draws.below(i, i)]);
      }
      next_fit(true);
    }
    next_fit(false);
    return std::move(packs_);
  }

 private:
  // Next fit over the pool. With `filter`, groups that reach no threshold are the next pool.
  void next_fit(bool filter) {
    std::vector<std::uint32_t> rest;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < pool_.size(); ++i) {
      limits_.demands(pool_[i], sample_.data());
      if (i > begin && !has_room()) {
        close(begin, i, filter, rest);
        begin = i;
      }
      for (std::size_t l = 0; l < num_limits_; ++l) {
        const std::uint64_t cap = limits_.cap(static_cast<int>(l));
        const std::uint64_t before = i > begin ? fill_[l] : 0;
        GIMBAL_CHECK(sample_[l] <= cap - before, "sample ", pool_[i], " does not fit alone");
        fill_[l] = before + sample_[l];
      }
    }
    if (!pool_.empty()) close(begin, pool_.size(), filter, rest);
    pool_ = std::move(rest);
  }

  bool has_room() const {
    for (std::size_t l = 0; l < num_limits_; ++l) {
      if (sample_[l] > limits_.cap(static_cast<int>(l)) - fill_[l]) return false;
    }
    return true;
  }

  void close(std::size_t begin, std::size_t end, bool filter, std::vector<std::uint32_t>& rest) {
    bool accepted = !filter;
    for (std::size_t l = 0; l < num_limits_; ++l) accepted = accepted || fill_[l] >= accept_[l];
    const std::span<const std::uint32_t> group(pool_.data() + begin, end - begin);
    if (accepted) {
      packs_.add(group);
    } else {
      rest.insert(rest.end(), group.begin(), group.end());
    }
  }

  const PackLimits& limits_;
  std::size_t num_limits_;
  std::vector<std::uint64_t> accept_;
  std::vector<std::uint64_t> fill_;    // of the open group
  std::vector<std::uint64_t> sample_;  // demands of the sample at hand
  std::vector<std::uint32_t> pool_;
  Packs packs_;
};

}  // namespace

Packs isf_packs(const PackLimits& limits, const IsfOptions& options,
                std::span<const std::uint32_t> order, const CounterRng& rng) {
  GIMBAL_USER_CHECK(options.rounds >= 0, "balance: isf rounds are ", options.rounds,
                    "; give at least 0");
  GIMBAL_CHECK_LE(options.accept.size(), static_cast<std::size_t>(limits.count()),
                  "isf thresholds for more limits than there are");
  for (std::size_t l = 0; l < options.accept.size(); ++l) {
    const int limit = static_cast<int>(l);
    GIMBAL_USER_CHECK(options.accept[l] <= limits.cap(limit), "balance: the isf threshold of ",
                      limits.name(limit), " is ", options.accept[l], ", above its cap of ",
                      limits.cap(limit), "; no pack could reach it");
  }
  return IterativeFilter(limits, options, order).run(options.rounds, rng);
}

}  // namespace gimbal
