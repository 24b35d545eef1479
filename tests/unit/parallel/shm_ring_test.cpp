#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/shm/byte_ring.h"
#include "gimbal/parallel/shm/doorbell.h"
#include "gimbal/parallel/shm/process_watch.h"
#include "gimbal/parallel/shm/shared_memory.h"

namespace gimbal {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

std::vector<std::byte> counted_bytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  return bytes;
}

/// Small at first otherwise, and then the bytes never come to an end.
rc::Gen<std::size_t> count_up_to(std::size_t most) {
  return rc::gen::resize(rc::kNominalSize, rc::gen::inRange<std::size_t>(0, most + 1));
}

RC_GTEST_PROP(ByteRing, IsAQueueOfItsCapacity, ()) {
  ByteRingState state;
  std::vector<std::byte> room(64);
  ByteRing ring(state, room.data(), room.size());
  const std::vector<std::byte> sent = counted_bytes(4000);
  std::vector<std::byte> received(sent.size());
  std::size_t num_sent = 0, num_received = 0;
  while (num_received < sent.size()) {
    const std::size_t out = *count_up_to(100);
    const std::size_t wanted = std::min(out, sent.size() - num_sent);
    const std::size_t written = ring.write(sent.data() + num_sent, wanted);
    RC_ASSERT(written == std::min(wanted, 64 - (num_sent - num_received)));
    num_sent += written;
    RC_ASSERT(ring.num_readable() == num_sent - num_received);
    RC_ASSERT(ring.writer_waits() == (written < wanted));
    const std::size_t in = std::min(1 + *count_up_to(99), received.size() - num_received);
    const std::size_t read = ring.read(received.data() + num_received, in);
    RC_ASSERT(read == std::min(in, num_sent - num_received));
    num_received += read;
  }
  RC_ASSERT(received == sent);
}

TEST(ByteRing, AsksForRoom) {
  ByteRingState state;
  std::vector<std::byte> room(16);
  ByteRing ring(state, room.data(), room.size());
  const std::vector<std::byte> bytes = counted_bytes(16);
  EXPECT_EQ(ring.write(bytes.data(), 10), 10U);
  EXPECT_TRUE(ring.has_room(6));
  EXPECT_FALSE(ring.writer_waits());
  EXPECT_FALSE(ring.has_room(8));
  EXPECT_TRUE(ring.writer_waits());
  EXPECT_THROW(ByteRing(state, room.data(), 12), InternalError) << "no power of two";
}

/// A writer and a reader that sleep when there is nothing to do: no byte and no ring is lost.
TEST(ByteRing, MovesBytesBetweenThreads) {
  ByteRingState state;
  std::vector<std::byte> room(1024);
  Doorbell writer_bell, reader_bell;
  const std::vector<std::byte> sent = counted_bytes(256 << 10);
  std::thread writer([&] {
    ByteRing ring(state, room.data(), room.size());
    for (std::size_t done = 0; done < sent.size();) {
      const std::uint32_t seen = writer_bell.rings();
      const std::size_t count = ring.write(sent.data() + done, sent.size() - done);
      done += count;
      if (count > 0) {
        reader_bell.ring();
      } else {
        writer_bell.wait(seen, std::chrono::seconds(20));
      }
    }
  });
  ByteRing ring(state, room.data(), room.size());
  std::vector<std::byte> received(sent.size());
  const auto begin = Clock::now();
  for (std::size_t done = 0; done < received.size();) {
    const std::uint32_t seen = reader_bell.rings();
    const std::size_t count = ring.read(received.data() + done, received.size() - done);
    done += count;
    if (count > 0 && ring.writer_waits()) writer_bell.ring();
    if (count == 0) reader_bell.wait(seen, std::chrono::seconds(20));
  }
  writer.join();
  EXPECT_EQ(received, sent);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20)) << "a ring was lost";
}

TEST(Doorbell, WakesWhoWaits) {
  Doorbell bell;
  const std::uint32_t seen = bell.rings();
  std::thread ringer([&] {
    std::this_thread::sleep_for(milliseconds(20));
    bell.ring();
  });
  const auto begin = Clock::now();
  while (bell.rings() == seen) bell.wait(seen, std::chrono::seconds(30));
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20));
  ringer.join();
  // Rung before: no sleep.
  const auto again = Clock::now();
  bell.wait(seen, std::chrono::seconds(30));
  EXPECT_LT(Clock::now() - again, std::chrono::seconds(20));
  // Not rung: to the end.
  const auto quiet = Clock::now();
  int num_waits = 0;
  for (; Clock::now() - quiet < milliseconds(30); ++num_waits)
    bell.wait(bell.rings(), milliseconds(30));
  EXPECT_LE(num_waits, 20) << "it does not sleep";
}

TEST(SharedMemory, IsSeenByWhoeverOpensIt) {
  SharedMemory first = SharedMemory::create(10000);
  SharedMemory second = SharedMemory::open(getpid(), first.file(), 10000);
  first.close_file();
  EXPECT_NE(first.data(), second.data());
  EXPECT_EQ(second.data()[9999], std::byte{0});
  first.data()[9999] = std::byte{42};
  EXPECT_EQ(second.data()[9999], std::byte{42});
}

TEST(SharedMemory, RefusesWhatItIsNot) {
  SharedMemory memory = SharedMemory::create(10000);
  const int file = memory.file();
  EXPECT_THROW(SharedMemory::open(getpid(), file, 20000), std::runtime_error);
  memory.close_file();
  EXPECT_THROW(SharedMemory::open(getpid(), file, 10000), std::system_error);
}

TEST(ProcessWatch, SeesTheEndBeforeTheParentDoes) {
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pause();
    _exit(0);
  }
  const ProcessWatch watch(child), own(getpid());
  EXPECT_FALSE(watch.has_ended());
  kill(child, SIGSTOP);
  EXPECT_FALSE(watch.has_ended());
  kill(child, SIGKILL);
  const auto begin = Clock::now();
  while (!watch.has_ended() && Clock::now() - begin < std::chrono::seconds(20))
    std::this_thread::sleep_for(milliseconds(1));
  EXPECT_TRUE(watch.has_ended());
  EXPECT_FALSE(own.has_ended());
  waitpid(child, nullptr, 0);
  EXPECT_TRUE(ProcessWatch(child).has_ended());
}

}  // namespace
}  // namespace gimbal
