// The store of a launcher like torchrun: it lives in the agent, not on rank 0.
#pragma once

#include <string>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "workers.h"

namespace gimbal::testing_workers {

/// Serves a store in this process, at a port of its own, while the object lives.
class AgentStore {
 public:
  AgentStore() {
    c10d::TCPStoreOptions options;
    options.port = 0;
    options.isServer = true;
    options.waitWorkers = false;
    store_ = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  }

  /// `variables` of workers, and those that lead them to this store.
  Variables leading_here(Variables variables = {}) const {
    variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
    variables["MASTER_PORT"] = std::to_string(store_->getPort());
    return variables;
  }

 private:
  c10::intrusive_ptr<c10d::TCPStore> store_;
};

}  // namespace gimbal::testing_workers
