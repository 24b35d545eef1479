#include "gimbal/parallel/comm/comm_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include "gimbal/parallel/comm/comm_life_sign.h"

namespace gimbal {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

LifeSign life_sign(long count, LifeState state, const std::string& activity) {
  return {count, state, "pp 1; host h", activity};
}

TEST(LifeSign, SurvivesTheStore) {
  const LifeSign sign{12345678901, LifeState::kFailed, "host h", "two\nlines"};
  const auto read = decode_life_sign(encode(sign));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->count, sign.count);
  EXPECT_EQ(read->state, sign.state);
  EXPECT_EQ(read->place, sign.place);
  EXPECT_EQ(read->activity, sign.activity);
  for (const char* text : {"", "1\n2", "x\n0\nhost\n", "1\n9\nhost\n", "1\n-1\nhost\n"})
    EXPECT_FALSE(decode_life_sign(text)) << text;
}

TEST(DescribeRanks, SaysWhoIsDeadAndWhatTheOthersDo) {
  using Signs = std::vector<std::optional<LifeSign>>;
  const Signs before{life_sign(5, LifeState::kRunning, "waits"),
                     life_sign(7, LifeState::kRunning, "reads"),
                     life_sign(9, LifeState::kRunning, "waits in barrier"),
                     std::nullopt,
                     life_sign(3, LifeState::kEnded, ""),
                     life_sign(2, LifeState::kRunning, "")};
  Signs after = before;
  after[2]->count = 11;
  after[5]->state = LifeState::kFailed;
  const RankReport report = describe_ranks(before, after, 0, 1.25);
  EXPECT_EQ(report.dead,
            "Rank 1 (pp 1; host h) has stopped or is stuck (killed, halted, or its machine or "
            "network is down): no sign of life in 1.25 s of watching; in its last one it reads. "
            "Rank 3 has never given a sign of life. ");
  // Rank 5, which has failed, speaks for itself.
  EXPECT_EQ(report.others,
            "Rank 4 (pp 1; host h) has ended its work. "
            "Rank 2 (pp 1; host h) lives; it waits in barrier. ");
}

TEST(DescribeRanks, NamesOnlySomeOfMany) {
  const std::vector<std::optional<LifeSign>> signs(1000,
                                                   life_sign(1, LifeState::kRunning, "waits"));
  const std::string text = describe_ranks(signs, signs, 4, 1).dead;
  EXPECT_LT(text.size(), 2000u);
  EXPECT_THAT(text, HasSubstr("And 991 more ranks give no sign of life."));
}

/// The period is short where a diagnosis does not need that the others write within two and a half.
HealthSetup setup_of(int rank, int size, milliseconds period = milliseconds(100)) {
  HealthSetup setup;
  setup.rank = rank;
  setup.size = size;
  setup.host = "h";
  setup.store_address = "nowhere:1";
  setup.rank_zero_serves = false;
  setup.activity = [] { return "waits in barrier"; };
  setup.period = period;
  return setup;
}

constexpr milliseconds kLongPeriod{400};

TEST(Health, NamesARankThatNoLongerWrites) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Health first(setup_of(0, 3, kLongPeriod), store);
  Health second(setup_of(1, 3, kLongPeriod), store);
  // Rank 2 has written once and is dead since then.
  const std::string sign = encode({5, LifeState::kRunning, "host far", "reads a picture"});
  store->set("health/2", std::vector<std::uint8_t>(sign.begin(), sign.end()));
  second.set_coordinates("tp 1");
  const std::string text = first.diagnose("barrier failed");
  EXPECT_THAT(text, HasSubstr("Rank 2 (host far) has stopped or is stuck"));
  EXPECT_THAT(text, HasSubstr("in its last one it reads a picture"));
  EXPECT_THAT(text, HasSubstr("Rank 1 (tp 1; host h) lives; it waits in barrier."));
}

TEST(Health, TellsTheOthersOfAFailure) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::mutex mutex;
  std::condition_variable told_them;
  bool told = false;
  HealthSetup waiting = setup_of(1, 2);
  waiting.on_failure = [&] {
    const std::lock_guard lock(mutex);
    told = true;
    told_them.notify_all();
  };
  Health second(waiting, store);
  {
    Health first(setup_of(0, 2), store);
    EXPECT_FALSE(second.other_failure());
    first.report_failure("sample 7 is broken\nmore");
    std::unique_lock lock(mutex);
    ASSERT_TRUE(told_them.wait_for(lock, std::chrono::seconds(20), [&] { return told; }));
    EXPECT_FALSE(first.other_failure());
  }
  EXPECT_EQ(second.other_failure(), "rank 0 (host h) failed first: sample 7 is broken");
  EXPECT_EQ(second.diagnose("barrier failed"),
            "Rank 0 (host h) failed first: sample 7 is broken. ");
}

TEST(Health, ADeadRankExplainsWhatAnotherHasNoticed) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Health first(setup_of(0, 3, kLongPeriod), store);
  Health second(setup_of(1, 3, kLongPeriod), store);
  EXPECT_EQ(first.diagnose("barrier failed"),
            "Rank 2 has never given a sign of life. "
            "Rank 1 (host h) lives; it waits in barrier. ");
  EXPECT_EQ(second.diagnose("barrier failed"), "Rank 2 has never given a sign of life. ");
  EXPECT_EQ(second.other_failure(), "rank 0 (host h) noticed first: barrier failed");
}

TEST(Health, SaysWhoNoticedFirstWhereNobodyIsDead) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Health first(setup_of(0, 2), store);
  Health second(setup_of(1, 2), store);
  first.diagnose("barrier failed");
  EXPECT_EQ(second.diagnose("barrier failed"), "Rank 0 (host h) noticed first: barrier failed. ");
}

TEST(Health, RankThatUnwindsHasFailedAndOneThatReturnsHasEnded) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  Health second(setup_of(1, 2), store);
  { const Health first(setup_of(0, 2), store); }
  EXPECT_EQ(decode_life_sign(store->get_to_str("health/0"))->state, LifeState::kEnded);
  EXPECT_FALSE(store->check({"health/failure"}));
  try {
    const Health first(setup_of(0, 2), store);
    throw std::runtime_error("something");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(decode_life_sign(store->get_to_str("health/0"))->state, LifeState::kLeft);
  EXPECT_THAT(store->get_to_str("health/failure"), HasSubstr("it ends with an error"));
}

/// Answers until it is told to stop; then every call waits for ever, as on a halted host.
class HaltingStore : public c10d::HashStore {
 public:
  void set(const std::string& key, const std::vector<std::uint8_t>& value) override {
    while (halted) std::this_thread::sleep_for(milliseconds(20));
    c10d::HashStore::set(key, value);
  }
  std::atomic<bool> halted = false;
};

TEST(Health, StoreThatDoesNotAnswerHoldsUpNobody) {
  const auto store = c10::make_intrusive<HaltingStore>();
  HealthSetup setup = setup_of(1, 2);
  setup.rank_zero_serves = true;
  {
    Health health(setup, store);
    store->halted = true;
    EXPECT_EQ(health.diagnose("barrier failed"),
              "The store at nowhere:1 does not answer: rank 0, which serves it, has stopped or is "
              "stuck (killed, halted, ended, or its machine or network is down). ");
  }  // returns though its thread still waits
  store->halted = false;
}

/// A server that has gone: every call throws.
class LostStore : public c10d::HashStore {
 public:
  bool check(const std::vector<std::string>&) override { throw std::runtime_error("lost"); }
};

TEST(Health, StoreThatIsGoneIsSaid) {
  Health health(setup_of(0, 2), c10::make_intrusive<LostStore>());
  EXPECT_EQ(health.diagnose("barrier failed"),
            "The store at nowhere:1 is gone (lost): torchrun's agent, which serves it, has stopped "
            "or is stuck. ");
}

}  // namespace
}  // namespace gimbal
