// What the ranks have said to each other in the steps of a run.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gimbal/base/json.h"
#include "gimbal/parallel/mesh.h"

namespace gimbal {

/// Counts what this rank communicates between begin_step and end_step: evaluations and checkpoints
/// between steps are left out. The mesh must outlive it.
class StepCommunication {
 public:
  explicit StepCommunication(const Mesh& mesh) : mesh_(mesh) {}
  void begin_step();
  void end_step();
  std::int64_t num_steps() const { return num_steps_; }
  /// Sums over the steps, by axis and kind of call.
  const std::vector<CommTotal>& totals() const { return totals_; }

 private:
  const Mesh& mesh_;
  std::vector<CommTotal> before_;  // the step
  std::vector<CommTotal> totals_;
  std::int64_t num_steps_ = 0;
};

Json to_json(const std::vector<CommTotal>& totals);
std::vector<CommTotal> comm_totals_from(const Json& json);

struct CommunicationReport {
  std::int64_t step = 0;       // the last one
  std::int64_t num_steps = 0;  // that were counted
  std::vector<std::vector<CommTotal>> ranks;

  /// Mean of the ranks; ranks that make no such call count as 0.
  struct Mean {
    std::string axis, call;
    double calls = 0;
    double bytes = 0;
    double wait_seconds = 0;
  };
  std::vector<Mean> means() const;
};

/// The line of kind `communication` in metrics.jsonl.
Json to_json(const CommunicationReport& report);
/// A table for a person.
std::string to_text(const CommunicationReport& report);

}  // namespace gimbal
