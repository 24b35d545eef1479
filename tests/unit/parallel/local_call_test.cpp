#include "gimbal/parallel/shm/local_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

namespace gimbal {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

/// Two members with a mapping of their own each, as two processes have.
class LocalPair {
 public:
  explicit LocalPair(pid_t second = getpid()) {
    SharedMemory bells = SharedMemory::create(LocalHub::num_bytes(2));
    SharedMemory rings = SharedMemory::create(LocalGroup::num_bytes(2));
    for (int own = 0; own < 2; ++own) {
      auto hub = std::make_shared<LocalHub>(
          SharedMemory::open(getpid(), bells.file(), bells.size()),
          std::vector<pid_t>{getpid(), second}, static_cast<std::size_t>(own));
      groups[own] = std::make_shared<LocalGroup>(
          std::move(hub), SharedMemory::open(getpid(), rings.file(), rings.size()),
          std::vector<std::size_t>{0, 1}, own, std::vector<std::string>{"rank 0", "rank 1"});
    }
  }
  std::shared_ptr<LocalGroup> groups[2];
};

const std::atomic<bool> kGoesOn = false;

void wait_for(LocalCall& call, milliseconds timeout = std::chrono::seconds(60)) {
  call.group().hub().wait(call, timeout, kGoesOn);
}

std::vector<std::byte> filled(std::size_t count, int value) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

LocalMessage to(int peer, std::vector<std::byte>& bytes) {
  return {peer, bytes.data(), bytes.size()};
}

/// `size` bytes each way and back at the same time.
void exchange(const std::shared_ptr<LocalGroup>& group, LocalLane lane, std::size_t size) {
  const int own = group->own();
  std::vector<std::byte> sent = filled(size, 10 + own), received(size);
  LocalCall call(group, lane, {to(1 - own, sent)}, {to(1 - own, received)});
  wait_for(call);
  EXPECT_EQ(received, filled(size, 11 - own)) << size;
}

TEST(LocalCall, MovesMessagesOfAllSizesBothWays) {
  LocalPair pair;
  const auto run = [&](int own) {
    // The largest are several times as large as their rings.
    for (const std::size_t size : {1, 8, 4095, 1 << 20, 9'000'001, 3})
      exchange(pair.groups[own], LocalLane::kCollectives, size);
  };
  std::thread other(run, 1);
  run(0);
  other.join();
}

TEST(LocalCall, MayBeWaitedForInAnyOrder) {
  LocalPair pair;
  const auto run = [&](int own) {
    const auto& group = pair.groups[own];
    std::vector<std::vector<std::byte>> sent, received(30);
    std::vector<std::unique_ptr<LocalCall>> calls;
    for (int i = 0; i < 30; ++i)
      sent.push_back(filled(static_cast<std::size_t>(1 + 50'000 * i), 100 * own + i));
    for (std::size_t i = 0; i < sent.size(); ++i) {
      received[i].resize(sent[i].size());
      calls.push_back(std::make_unique<LocalCall>(
          group, i % 3 == 0 ? LocalLane::kMessages : LocalLane::kCollectives,
          std::vector{to(1 - own, sent[i])}, std::vector{to(1 - own, received[i])}));
    }
    for (auto call = calls.rbegin(); call != calls.rend(); ++call) wait_for(**call);
    for (std::size_t i = 0; i < sent.size(); ++i)
      EXPECT_EQ(received[i], filled(sent[i].size(), 100 * (1 - own) + static_cast<int>(i)));
  };
  std::thread other(run, 1);
  run(0);
  other.join();
}

// The receiver gets all of a message that does not fit into the ring while its sender does other
// things.
TEST(LocalCall, SendsWhileItsProcessComputes) {
  LocalPair pair;
  std::vector<std::byte> sent = filled(20'000'000, 5), received(sent.size());
  LocalCall out(pair.groups[0], LocalLane::kMessages, {to(1, sent)}, {});
  LocalCall in(pair.groups[1], LocalLane::kMessages, {}, {to(0, received)});
  wait_for(in);
  EXPECT_EQ(received, sent);
  wait_for(out);
}

// Rank 0 waits for a message of one group that rank 1 sends only after it has got all of a message
// of the other group, of which rank 0 still has a part.
TEST(LocalCall, WaitingMovesTheMessagesOfAllGroups) {
  LocalPair pair;
  SharedMemory rings = SharedMemory::create(LocalGroup::num_bytes(2));
  std::shared_ptr<LocalGroup> others[2];
  for (int own = 0; own < 2; ++own) {
    const std::shared_ptr<LocalHub> hub(pair.groups[own], &pair.groups[own]->hub());
    others[own] = std::make_shared<LocalGroup>(
        hub, SharedMemory::open(getpid(), rings.file(), rings.size()),
        std::vector<std::size_t>{0, 1}, own, std::vector<std::string>{"rank 0", "rank 1"});
  }
  std::vector<std::byte> large = filled(9'000'000, 1), small = filled(10, 2);
  std::thread other([&] {
    std::vector<std::byte> received(large.size()), answer = small;
    LocalCall first(pair.groups[1], LocalLane::kCollectives, {}, {to(0, received)});
    wait_for(first);
    EXPECT_EQ(received, large);
    LocalCall second(others[1], LocalLane::kMessages, {to(0, answer)}, {});
    wait_for(second);
  });
  std::vector<std::byte> received(small.size());
  LocalCall first(pair.groups[0], LocalLane::kCollectives, {to(1, large)}, {});
  LocalCall second(others[0], LocalLane::kMessages, {}, {to(1, received)});
  wait_for(second);
  wait_for(first);
  EXPECT_EQ(received, small);
  other.join();
}

// Both start two calls whose second phases begin at different times.
TEST(LocalCall, HasASecondPhase) {
  LocalPair pair;
  const auto run = [&](int own) {
    const auto& group = pair.groups[own];
    const int other = 1 - own;
    struct Sum {
      std::vector<std::byte> sent, received, answer, answered;
    };
    std::vector<Sum> sums(5);
    std::vector<std::unique_ptr<LocalCall>> calls;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      Sum& sum = sums[i];
      const std::size_t size = i % 2 == 0 ? 5'000'000 : 100;
      sum.sent = filled(size, 3 + own);
      sum.received.resize(size);
      sum.answer.resize(size);
      sum.answered.resize(size);
      const auto then = [&sum, other](LocalCall& call) {
        for (std::size_t k = 0; k < sum.sent.size(); ++k)
          sum.answer[k] = static_cast<std::byte>(std::to_integer<int>(sum.received[k]) * 2);
        call.add(LocalLane::kSecondPhase, {to(other, sum.answer)}, {to(other, sum.answered)});
      };
      calls.push_back(std::make_unique<LocalCall>(group, LocalLane::kCollectives,
                                                  std::vector{to(other, sum.sent)},
                                                  std::vector{to(other, sum.received)}, then));
      if (own == 1) std::this_thread::sleep_for(milliseconds(3));
    }
    for (const auto& call : calls) wait_for(*call);
    for (const Sum& sum : sums) EXPECT_EQ(sum.answered, filled(sum.sent.size(), 2 * (3 + own)));
  };
  std::thread other(run, 1);
  run(0);
  other.join();
}

TEST(LocalCall, NamesWhomItWaitsFor) {
  LocalPair pair;
  std::vector<std::byte> received(8);
  LocalCall call(pair.groups[0], LocalLane::kMessages, {}, {to(1, received)});
  EXPECT_THAT([&] { wait_for(call, milliseconds(50)); },
              ThrowsMessage<std::runtime_error>(HasSubstr("timed out waiting for rank 1")));
}

TEST(LocalCall, EndsSoonAfterAnInterruption) {
  LocalPair pair;
  std::vector<std::byte> received(8);
  LocalCall call(pair.groups[0], LocalLane::kMessages, {}, {to(1, received)});
  std::atomic<bool> interrupted = false;
  std::thread other([&] {
    std::this_thread::sleep_for(milliseconds(20));
    interrupted = true;
  });
  EXPECT_THAT([&] { call.group().hub().wait(call, std::chrono::seconds(60), interrupted); },
              ThrowsMessage<std::runtime_error>(HasSubstr("another rank has failed")));
  other.join();
}

TEST(LocalCall, NoticesThatTheOtherProcessHasEnded) {
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pause();
    _exit(0);
  }
  LocalPair pair(child);
  // What it has sent before arrives all the same.
  std::vector<std::byte> sent = filled(8, 1), received(8), never(8);
  LocalCall out(pair.groups[1], LocalLane::kMessages, {to(0, sent)}, {});
  kill(child, SIGKILL);
  LocalCall first(pair.groups[0], LocalLane::kMessages, {}, {to(1, received)});
  LocalCall second(pair.groups[0], LocalLane::kMessages, {}, {to(1, never)});
  wait_for(first);
  EXPECT_EQ(received, sent);
  EXPECT_THAT([&] { wait_for(second); },
              ThrowsMessage<std::runtime_error>(
                  HasSubstr("rank 1 has ended (process " + std::to_string(child))));
  waitpid(child, nullptr, 0);
}

TEST(LocalCall, RefusesMessagesOfAnotherLength) {
  LocalPair pair;
  std::vector<std::byte> sent = filled(8, 1), received(9);
  LocalCall out(pair.groups[0], LocalLane::kMessages, {to(1, sent)}, {});
  EXPECT_THAT([&] { LocalCall(pair.groups[1], LocalLane::kMessages, {}, {to(0, received)}); },
              ThrowsMessage<std::runtime_error>(
                  AllOf(HasSubstr("rank 0"), HasSubstr("8 bytes"), HasSubstr("9 are expected"))));
}

TEST(LocalCall, GivenUpBreaksItsLanesOnly) {
  LocalPair pair;
  std::vector<std::byte> received(8), sent = filled(8, 1);
  { LocalCall given_up(pair.groups[0], LocalLane::kMessages, {}, {to(1, received)}); }
  EXPECT_THAT([&] { LocalCall(pair.groups[0], LocalLane::kMessages, {}, {to(1, received)}); },
              ThrowsMessage<std::runtime_error>(HasSubstr("an earlier call with rank 1")));
  LocalCall out(pair.groups[1], LocalLane::kCollectives, {to(0, sent)}, {});
  LocalCall in(pair.groups[0], LocalLane::kCollectives, {}, {to(1, received)});
  wait_for(in);
  EXPECT_EQ(received, sent);
}

// Of two messages under way the first is given up: not a byte of the second takes its place.
TEST(LocalCall, GivenUpIsNeverMistakenForTheNext) {
  LocalPair pair;
  std::vector<std::byte> first = filled(3'000'000, 1), second = filled(3'000'000, 2);
  std::vector<std::byte> received(3'000'000);
  auto given_up = std::make_unique<LocalCall>(
      pair.groups[0], LocalLane::kMessages, std::vector{to(1, first)}, std::vector<LocalMessage>{});
  LocalCall next(pair.groups[0], LocalLane::kMessages, {to(1, second)}, {});
  given_up.reset();
  LocalCall in(pair.groups[1], LocalLane::kMessages, {}, {to(0, received)});
  EXPECT_THAT([&] { wait_for(in, milliseconds(300)); },
              ThrowsMessage<std::runtime_error>(HasSubstr("timed out")));
  EXPECT_EQ(std::ranges::count(received, std::byte{2}), 0);
  EXPECT_THAT([&] { wait_for(next); },
              ThrowsMessage<std::runtime_error>(HasSubstr("an earlier call with rank 1")));
}

// What is wrong with one call does not end another, whoever finds out.
TEST(LocalCall, FailsByItself) {
  LocalPair pair;
  std::vector<std::byte> sent = filled(8, 1), received(9), other = filled(100, 2), fine(100);
  LocalCall wrong(pair.groups[1], LocalLane::kMessages, {}, {to(0, received)});
  LocalCall out(pair.groups[0], LocalLane::kMessages, {to(1, sent)}, {});
  LocalCall other_out(pair.groups[0], LocalLane::kCollectives, {to(1, other)}, {});
  LocalCall in(pair.groups[1], LocalLane::kCollectives, {}, {to(0, fine)});
  wait_for(in);
  EXPECT_EQ(fine, other);
  EXPECT_THAT([&] { wait_for(wrong); },
              ThrowsMessage<std::runtime_error>(HasSubstr("8 bytes, 9 are expected")));
}

TEST(LocalCall, IsNotDoneWhenItsSecondPhaseThrows) {
  LocalPair pair;
  std::vector<std::byte> sent = filled(8, 1), received(8);
  LocalCall out(pair.groups[0], LocalLane::kCollectives, {to(1, sent)}, {});
  EXPECT_THAT(
      [&] {
        LocalCall in(pair.groups[1], LocalLane::kCollectives, {}, {to(0, received)},
                     [](LocalCall&) { throw std::runtime_error("no memory for the sum"); });
        wait_for(in);
      },
      ThrowsMessage<std::runtime_error>(HasSubstr("no memory for the sum")));
}

// The second phase of the first sum fails on one side: the second sum's does not take its place.
TEST(LocalCall, SecondPhasesAreNeverMistakenForEachOther) {
  LocalPair pair;
  struct Sum {
    std::vector<std::byte> sent, received = filled(8, 0), last = filled(8, 0);
  };
  const auto start = [&](int own, Sum& sum, bool fails) {
    return std::make_unique<LocalCall>(
        pair.groups[own], LocalLane::kCollectives, std::vector{to(1 - own, sum.sent)},
        std::vector{to(1 - own, sum.received)}, [&sum, own, fails](LocalCall& call) {
          if (fails) throw std::runtime_error("no memory for the sum");
          call.add(LocalLane::kSecondPhase, {to(1 - own, sum.sent)}, {to(1 - own, sum.last)});
        });
  };
  Sum first[2] = {{filled(8, 1)}, {filled(8, 2)}}, second[2] = {{filled(8, 3)}, {filled(8, 4)}};
  const auto first_of_0 = start(0, first[0], true);
  const auto second_of_0 = start(0, second[0], false);
  const auto first_of_1 = start(1, first[1], false);
  const auto second_of_1 = start(1, second[1], false);
  EXPECT_THAT([&] { wait_for(*second_of_0, milliseconds(500)); },
              ThrowsMessage<std::runtime_error>(HasSubstr("an earlier call with rank 1")));
  EXPECT_THAT([&] { wait_for(*first_of_0); },
              ThrowsMessage<std::runtime_error>(HasSubstr("no memory for the sum")));
  EXPECT_THAT([&] { wait_for(*first_of_1, milliseconds(100)); },
              ThrowsMessage<std::runtime_error>(HasSubstr("timed out waiting for rank 0")));
  EXPECT_EQ(second[0].last, filled(8, 0));
  EXPECT_EQ(first[1].last, filled(8, 0));
}

// Rank 0 waits for something else, all of its messages and second phases move meanwhile.
TEST(LocalCall, GoesOnWhileItsThreadIsAway) {
  LocalPair pair;
  const auto start = [&](int own, std::vector<std::byte>& mine, std::vector<std::byte>& theirs,
                         std::vector<std::byte>& last) {
    return std::make_unique<LocalCall>(
        pair.groups[own], LocalLane::kCollectives, std::vector{to(1 - own, mine)},
        std::vector{to(1 - own, theirs)}, [&mine, &last, own](LocalCall& call) {
          call.add(LocalLane::kSecondPhase, {to(1 - own, mine)}, {to(1 - own, last)});
        });
  };
  std::vector<std::byte> sent[2] = {filled(9'000'000, 1), filled(9'000'000, 2)};
  std::vector<std::byte> received[2] = {filled(9'000'000, 0), filled(9'000'000, 0)};
  std::vector<std::byte> last[2] = {filled(9'000'000, 0), filled(9'000'000, 0)};
  const auto first = start(0, sent[0], received[0], last[0]);
  {
    const LocalHub::Away away(pair.groups[0]->hub());
    const auto second = start(1, sent[1], received[1], last[1]);
    wait_for(*second);
  }
  wait_for(*first);
  EXPECT_EQ(last[0], sent[1]);
  EXPECT_EQ(last[1], sent[0]);
}

TEST(LocalGroup, ManyMembersHaveSmallerRings) {
  EXPECT_LT(LocalGroup::num_bytes(4), std::size_t{200} << 20);
  EXPECT_LT(LocalGroup::num_bytes(128), std::size_t{300} << 20);
  EXPECT_GT(LocalGroup::num_bytes(64), LocalGroup::num_bytes(32));
}

}  // namespace
}  // namespace gimbal
