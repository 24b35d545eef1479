#include <ATen/ops/zeros.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "gimbal/base/error.h"
#include "gimbal/parallel/ports.h"
#include "gimbal/parallel/ports/ports_gradient.h"
#include "gimbal/parallel/ports/sequence_exchange.h"
#include "gimbal/parallel/ports/tensor_rows.h"

namespace gimbal {
namespace {

using HeadExchangePtr = std::shared_ptr<const HeadExchange>;

// An exchange that waits for its finish, in forward or backward.
struct StartedExchange {
  HeadExchangePtr exchange;
  HeadMessage message;
};

// What an exchange is made for.
struct ExchangeKey {
  RowSplit rows;
  std::int64_t num_heads = 0;                // query heads
  std::optional<std::int64_t> num_kv_heads;  // for keys and values
  std::string_view name;                     // of static storage
  bool operator==(const ExchangeKey&) const = default;
};

struct RecentExchange {
  ExchangeKey key;
  HeadExchangePtr exchange;
};

// Three each for the text and the vision rows of the micro-batches under way.
constexpr std::size_t kMostExchanges = 48;

// Gradients: finish's backward starts the way back and start's backward, which runs later, waits.
// Between them a stand-in goes through the graph, since the message has another shape.
class PackSequence : public SequenceExchange {
 public:
  PackSequence(Comm& sp, Comm& pack) : sp_(sp), pack_(pack), tp_size_(pack.size() / sp.size()) {}

  RowSplit split(std::int64_t total, std::int64_t unit) const override {
    return split_rows(total, pack_.size(), pack_.rank(), unit);
  }
  RowSplit sequence_split(std::int64_t total, std::int64_t unit) const override {
    return join_parts(split(total, unit), tp_size_);
  }

  at::Tensor start_to_heads(const at::Tensor& x_sNH,
                            const RowSplit& sequence_split) const override {
    if (sp_.size() == 1) return x_sNH;
    return start(x_sNH, exchange_of({sequence_split, x_sNH.size(1), {}, "queries for sp"}));
  }

  at::Tensor start_kv_to_heads(const at::Tensor& x_sKH, const RowSplit& sequence_split,
                               std::int64_t num_heads) const override {
    if (sp_.size() == 1) return x_sKH;
    return start(x_sKH,
                 exchange_of({sequence_split, num_heads, x_sKH.size(1), "keys or values for sp"}));
  }

  at::Tensor finish(const at::Tensor& x) const override {
    if (sp_.size() == 1) return x;
    const StartedExchange started = take(x);
    started.message.work->wait();
    return with_gradient(
        x, [](const at::Tensor& arrived) { return arrived.view(arrived.sizes()); },
        [this, exchange = started.exchange](const at::Tensor& gradient) {
          const at::Tensor stand_in = at::zeros({1}, gradient.options());
          keep_started(stand_in, {exchange, exchange->send_heads(gradient)});
          return stand_in.expand(gradient.sizes());
        });
  }

  at::Tensor to_rows(const at::Tensor& x_TnH, const RowSplit& sequence_split,
                     std::int64_t num_heads) const override {
    if (sp_.size() == 1) return x_TnH;
    const auto exchange = exchange_of({sequence_split, num_heads, {}, "attention for sp"});
    return with_gradient(
        x_TnH,
        [&](const at::Tensor& x) {
          const HeadMessage message = exchange->send_heads(x);
          message.work->wait();
          return exchange->arrived_rows(message);
        },
        [exchange](const at::Tensor& gradient) {
          const HeadMessage message = exchange->send_rows(gradient);
          message.work->wait();
          return exchange->arrived_heads(message);
        });
  }

  std::int64_t local_heads(std::int64_t num_heads) const override {
    return split_rows(num_heads, sp_.size(), sp_.rank()).own_size();
  }
  std::int64_t local_kv_heads(std::int64_t num_kv_heads, std::int64_t num_heads) const override {
    const auto heads = kv_heads_of_parts(num_kv_heads, num_heads, sp_.size());
    return static_cast<std::int64_t>(heads[static_cast<std::size_t>(sp_.rank())].size());
  }

  at::Tensor move_rows(const at::Tensor& x_tD, const RowSplit& from,
                       const RowSplit& to) const override {
    if (from == to) return x_tD;
    return with_gradient(
        x_tD,
        [&](const at::Tensor& x) { return move_part_rows(pack_, x, from, to, "rows to move"); },
        [this, from, to](const at::Tensor& gradient) {
          return move_part_rows(pack_, gradient, to, from, "gradients of rows to move");
        });
  }

  at::Tensor all_rows(const at::Tensor& x_tD, const RowSplit& split) const override {
    return with_gradient(
        x_tD,
        [&](const at::Tensor& x) { return gather_part_rows(pack_, x, split, "rows for all"); },
        [this, split](const at::Tensor& gradient) {
          return sum_part_rows(pack_, gradient, split, "gradients of rows for all");
        });
  }

 private:
  // All layers of a pack exchange alike.
  HeadExchangePtr exchange_of(const ExchangeKey& key) const {
    const auto found = std::ranges::find(recent_, key, &RecentExchange::key);
    if (found != recent_.end()) {
      std::rotate(recent_.begin(), found, found + 1);
      return recent_.front().exchange;
    }
    auto heads = key.num_kv_heads ? kv_heads_of_parts(*key.num_kv_heads, key.num_heads, sp_.size())
                                  : query_heads_of_parts(key.num_heads, sp_.size());
    auto exchange = std::make_shared<const HeadExchange>(sp_, key.rows, std::move(heads),
                                                         key.num_kv_heads.value_or(key.num_heads),
                                                         std::string(key.name));
    if (recent_.size() == kMostExchanges) recent_.pop_back();
    recent_.insert(recent_.begin(), {key, exchange});
    return exchange;
  }

  at::Tensor start(const at::Tensor& x, const HeadExchangePtr& exchange) const {
    return with_gradient(
        x,
        [&](const at::Tensor& rows) {
          StartedExchange started{exchange, exchange->send_rows(rows)};
          const at::Tensor arriving = exchange->arrived_heads(started.message);
          keep_started(arriving, std::move(started));
          return arriving;
        },
        [this](const at::Tensor& stand_in) {
          const StartedExchange started = take(stand_in);
          started.message.work->wait();
          return started.exchange->arrived_rows(started.message);
        });
  }

  static const void* key(const at::Tensor& x) { return x.storage().unsafeGetStorageImpl(); }

  void keep_started(const at::Tensor& x, StartedExchange started) const {
    const bool inserted = started_.emplace(key(x), std::move(started)).second;
    GIMBAL_CHECK(inserted, "two exchanges under way have the same storage");
  }

  StartedExchange take(const at::Tensor& x) const {
    const auto found = started_.find(key(x));
    GIMBAL_CHECK(found != started_.end(), "not what a start has returned, or finished already");
    StartedExchange started = std::move(found->second);
    started_.erase(found);
    return started;
  }

  Comm& sp_;
  Comm& pack_;
  int tp_size_;
  // Exchanges under way, by the storage of the tensor that stands for them.
  mutable std::unordered_map<const void*, StartedExchange> started_;
  mutable std::vector<RecentExchange> recent_;  // the last used one first
};

}  // namespace

std::shared_ptr<const SequenceExchange> make_pack_sequence(Comm& sp, Comm& pack) {
  return std::make_shared<PackSequence>(sp, pack);
}

}  // namespace gimbal
