#include "gimbal/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "gimbal/base/error.h"

namespace gimbal {
namespace {

TEST(ThreadPool, RunsEveryJob) {
  std::atomic<int> sum{0};
  std::vector<std::future<void>> done;
  ThreadPool pool(3);
  for (int i = 1; i <= 100; ++i) done.push_back(pool.submit([&sum, i] { sum += i; }));
  for (auto& future : done) future.get();
  EXPECT_EQ(sum, 5050);
}

TEST(ThreadPool, HandsExceptionsToTheCaller) {
  ThreadPool pool(1);
  auto failed = pool.submit([] { throw UserError("broken image"); });
  EXPECT_THROW(failed.get(), UserError);
  EXPECT_NO_THROW(pool.submit([] {}).get());
}

TEST(ThreadPool, FinishesTheRunningJobAndDropsTheQueuedOnes) {
  std::promise<void> started;
  std::promise<void> release;
  std::atomic<bool> finished{false};
  std::atomic<int> queued_runs{0};
  std::future<void> queued;
  std::thread opener;
  {
    ThreadPool pool(1);
    pool.submit([&] {
      started.set_value();
      release.get_future().wait();
      finished = true;
    });
    started.get_future().wait();
    queued = pool.submit([&] { ++queued_runs; });
    // Opens only once the queued job is dropped, which the destructor does before it joins.
    opener = std::thread([&] {
      queued.wait();
      release.set_value();
    });
  }
  opener.join();
  EXPECT_TRUE(finished);
  EXPECT_EQ(queued_runs, 0);
  EXPECT_THROW(queued.get(), std::future_error);
}

TEST(ThreadPool, RefusesNoThreads) { EXPECT_THROW(ThreadPool(0), InternalError); }

}  // namespace
}  // namespace gimbal
