#include "gimbal/tensor/prefetch.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "gimbal/base/error.h"

namespace gimbal {

// Requests are numbered in the order in which they were asked for. `ready` holds finished ones that
// are still to be delivered. The workers use no at:: operator that computes, so they never start
// torch's own threads.
struct Prefetcher::State {
  struct Result {
    Batch batch;
    std::exception_ptr error;
  };

  const Dataset& dataset;
  const ImageProcessor& processor;
  const std::uint64_t depth;
  const NextRequest next_request;
  const TileChoice tiles;
  const bool pinned;

  std::mutex mutex;
  std::condition_variable room;       // workers wait: a place is free, or stopping
  std::condition_variable delivered;  // the consumer waits: a result is ready, or the end is known
  std::map<std::uint64_t, Result> ready;
  std::uint64_t num_requested = 0;
  std::uint64_t num_taken = 0;
  bool asking = false;  // a worker is inside next_request
  bool ended = false;   // next_request has returned false or thrown
  bool stopping = false;
  double wait_seconds = 0.0;
  std::vector<std::thread> workers;

  State(const Dataset& data, const ImageProcessor& images, int max_ahead, NextRequest request,
        TileChoice choice, bool page_locked)
      : dataset(data),
        processor(images),
        depth(static_cast<std::uint64_t>(max_ahead)),
        next_request(std::move(request)),
        tiles(std::move(choice)),
        pinned(page_locked) {}

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    room.notify_all();
    for (std::thread& worker : workers) worker.join();
    workers.clear();
  }

  // Takes the next request and its number. False when there is nothing more to do.
  bool take_request(std::vector<std::uint32_t>& samples, std::uint64_t& number) {
    std::unique_lock lock(mutex);
    room.wait(lock,
              [&] { return stopping || ended || (!asking && num_requested - num_taken < depth); });
    if (stopping || ended) return false;
    asking = true;
    lock.unlock();
    bool more = false;
    std::exception_ptr error;
    try {
      more = next_request(samples);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    asking = false;
    ended = !more;
    number = num_requested;
    if (more || error) ++num_requested;
    if (error) ready[number].error = std::move(error);
    lock.unlock();
    room.notify_all();
    if (!more) delivered.notify_all();
    return more;
  }

  Batch make_batch(const std::vector<std::uint32_t>& samples) const {
    Batch batch = collate(dataset, processor, samples, tiles);
    return pinned ? to_pinned(batch) : batch;
  }

  void work() {
    std::vector<std::uint32_t> samples;
    std::uint64_t number = 0;
    while (take_request(samples, number)) {
      Result result;
      try {
        result.batch = make_batch(samples);
      } catch (...) {
        result.error = std::current_exception();
      }
      {
        const std::lock_guard lock(mutex);
        ready[number] = std::move(result);
      }
      delivered.notify_all();
    }
  }
};

Prefetcher::Prefetcher(const Dataset& dataset, const ImageProcessor& processor, int num_workers,
                       int depth, NextRequest next_request, TileChoice tiles,
                       const at::Device& target)
    : state_(std::make_unique<State>(dataset, processor, depth, std::move(next_request),
                                     std::move(tiles), !target.is_cpu())) {
  GIMBAL_CHECK(num_workers >= 0 && depth >= 1, "", num_workers, " workers, depth ", depth);
  try {
    for (int i = 0; i < num_workers; ++i)
      state_->workers.emplace_back([state = state_.get()] { state->work(); });
  } catch (...) {
    state_->stop();
    throw;
  }
}

Prefetcher::~Prefetcher() { state_->stop(); }

bool Prefetcher::next(Batch& batch) {
  State& state = *state_;
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  if (state.workers.empty()) {
    // Without workers the batch is prepared here, and all of that is waiting.
    std::vector<std::uint32_t> samples;
    if (state.ended) return false;
    state.ended = true;  // stays so when next_request throws
    state.ended = !state.next_request(samples);
    if (!state.ended) batch = state.make_batch(samples);
    state.wait_seconds += seconds();
    return !state.ended;
  }
  std::unique_lock lock(state.mutex);
  const auto at_end = [&] { return state.ended && state.num_taken == state.num_requested; };
  state.delivered.wait(lock, [&] { return at_end() || state.ready.contains(state.num_taken); });
  state.wait_seconds += seconds();
  if (at_end()) return false;
  const auto found = state.ready.find(state.num_taken);
  State::Result result = std::move(found->second);
  state.ready.erase(found);
  ++state.num_taken;
  lock.unlock();
  state.room.notify_all();
  if (result.error) std::rethrow_exception(result.error);
  batch = std::move(result.batch);
  return true;
}

double Prefetcher::take_wait_seconds() {
  const std::lock_guard lock(state_->mutex);
  return std::exchange(state_->wait_seconds, 0.0);
}

}  // namespace gimbal
