// How the processes of a job find each other.
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <string_view>

#include "gimbal/base/error.h"
#include "gimbal/parallel/comm.h"
#include "gimbal/parallel/comm/comm_c10d.h"

namespace gimbal {
namespace {

double in_seconds(std::chrono::milliseconds duration) {
  return std::chrono::duration<double>(duration).count();
}

c10::intrusive_ptr<c10d::Store> open_store(const LaunchInfo& launch,
                                           std::chrono::milliseconds timeout, bool serve) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(launch.master_port);
  options.isServer = serve;
  options.waitWorkers = false;
  options.timeout = timeout;
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(launch.master_address, options);
    return c10::make_intrusive<c10d::PrefixStore>(concat("gimbal/attempt_", launch.attempt),
                                                  std::move(store));
  } catch (const std::exception& e) {
    throw CommError(concat("rank ", launch.rank, " of ", launch.world_size, " cannot ",
                           options.isServer ? "serve at " : "reach ", launch.master_address, ":",
                           launch.master_port, " within ", in_seconds(timeout),
                           " s. Check MASTER_ADDR and MASTER_PORT, that the port is free on the "
                           "host of rank 0, and that rank 0 runs. Reason: ",
                           reason_of(e)));
  }
}

/// "/path/pair.cc:553", "enforce fail at /path/device.cc:83": a place in Gloo's sources.
bool is_source_place(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  return text.find('/') != std::string_view::npos && colon != std::string_view::npos &&
         colon + 1 < text.size() &&
         text.find_first_not_of("0123456789", colon + 1) == std::string_view::npos;
}

/// Without "[/path/pair.cc:553] ". Addresses such as "[127.0.0.1]:24487" stay.
std::string without_source_places(std::string text) {
  for (std::size_t begin = text.find('['); begin != std::string::npos;) {
    const std::size_t end = text.find(']', begin);
    if (end == std::string::npos) break;
    if (is_source_place(std::string_view(text).substr(begin + 1, end - begin - 1))) {
      text.erase(begin, end + 1 - begin);
      if (begin < text.size() && text[begin] == ' ') text.erase(begin, 1);
      begin = text.find('[', begin);
    } else {
      begin = text.find('[', begin + 1);
    }
  }
  return text;
}

std::string arrival_key(int rank) { return concat("arrived/", rank); }

/// Rank 0 waits for all and tells the others, so that a missing process is named once.
void wait_for_all(c10d::Store& store, const LaunchInfo& launch, std::chrono::milliseconds timeout) {
  const std::string all_key = "arrived/all";
  const std::vector<std::uint8_t> yes{1};
  std::vector<std::string> wanted{all_key};
  try {
    store.set(arrival_key(launch.rank), yes);
    if (launch.rank == 0) {
      wanted.clear();
      for (int i = 0; i < launch.world_size; ++i) wanted.push_back(arrival_key(i));
    }
    store.wait(wanted, timeout);
    if (launch.rank == 0) store.set(all_key, yes);
  } catch (const std::exception& e) {
    std::string missing;
    for (int i = 0; launch.rank == 0 && i < launch.world_size; ++i) {
      if (!store.check({arrival_key(i)})) missing += concat(missing.empty() ? "" : ", ", i);
    }
    throw CommError(concat("not all ", launch.world_size, " processes have started within ",
                           in_seconds(timeout), " s, says rank ", launch.rank,
                           missing.empty() ? "" : "; missing ranks: ", missing,
                           ". Look for their errors. Reason: ", reason_of(e)));
  }
}

}  // namespace

std::string reason_of(const std::exception& error) {
  std::string text = error.what();
  text = text.substr(0, text.find("\nException raised from "));
  // Gloo's advice: what is said about the other ranks is more precise.
  return without_source_places(text.substr(0, text.find(". This is typically caused by ")));
}

c10::intrusive_ptr<c10d::Store> connect_to_store(const LaunchInfo& launch,
                                                 std::chrono::milliseconds timeout) {
  return open_store(launch, timeout, false);
}

c10::intrusive_ptr<c10d::Store> meet(const LaunchInfo& launch, std::chrono::milliseconds timeout) {
  auto store = open_store(launch, timeout, launch.rank == 0 && !launch.agent_store);
  wait_for_all(*store, launch, timeout);
  return store;
}

}  // namespace gimbal
