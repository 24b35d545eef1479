// Signs of life: each rank writes to the store twice a second that it lives and what it does. A
// rank whose collective fails reads there who stands still. Included by comm_*.cpp only.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace gimbal {

struct HealthSetup {
  int rank = 0;
  int size = 1;
  std::string host;
  std::string store_address;  // "127.0.0.1:29500"
  /// Rank 0 serves the store and takes it away when it ends; else torchrun's agent does.
  bool rank_zero_serves = true;
  /// One line: what the rank does now. Called by another thread.
  std::function<std::string()> activity;
  /// Called by another thread when another rank has failed.
  std::function<void()> on_failure;
  std::chrono::milliseconds period{500};
};

/// A thread of its own with a connection of its own, so that nothing here holds up training, nor
/// hangs when the store does. One thread calls the methods.
class Health {
 public:
  /// `store`: a connection that nobody else uses.
  Health(HealthSetup setup, c10::intrusive_ptr<c10d::Store> store);
  /// Tells the others that this rank has ended, or (while an exception unwinds) failed. A rank that
  /// serves the store lets the others read the last news, for a few seconds at most.
  ~Health();
  Health(const Health&) = delete;
  Health& operator=(const Health&) = delete;

  void set_coordinates(const std::string& text);
  /// "rank 2 (host x) failed first: text", or "noticed first:" where a collective failed, once
  /// another rank has said so.
  std::optional<std::string> other_failure() const;
  /// Tells the others that this rank has failed with this error. Returns when it is written.
  void report_failure(const std::string& line);
  /// The same for an error that nobody has reported and that is known to unwind the stack.
  void report_unwinding();
  /// report_failure of a failed collective, then says in sentences which ranks give no sign of
  /// life, who failed first and what the others do. Takes two and a half periods, or a little
  /// longer when the store does not answer.
  std::string diagnose(const std::string& line);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace gimbal
