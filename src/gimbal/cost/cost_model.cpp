#include "gimbal/cost/cost_model.h"

#include <algorithm>
#include <utility>

#include "gimbal/base/error.h"
#include "gimbal/cost/communication.h"
#include "gimbal/cost/model_fingerprint.h"

namespace gimbal {
namespace {

std::size_t level_index(Recompute level) { return static_cast<std::size_t>(level); }

}  // namespace

Bytes message_buffer_bytes(Bytes before, Bytes after, int num_ranks) {
  if (num_ranks == 1) return 0;
  // Of two ranks each is the other's neighbour on both sides.
  return kMessagesPerNeighbour * (num_ranks == 2 ? std::max(before, after) : before + after);
}

CostModel::CostModel(ModelDesc model, ProfileTable profile, CostSettings settings)
    : model_(std::move(model)), profile_(std::move(profile)), settings_(std::move(settings)) {
  const MeshShape& mesh = settings_.mesh;
  GIMBAL_CHECK(mesh.pp >= 1 && mesh.dp_replicate >= 1 && mesh.dp_shard >= 1 && mesh.sp >= 1 &&
                   mesh.tp >= 1 && mesh.ep >= 1 && mesh.dp_shard * mesh.sp % mesh.ep == 0,
               "mesh ", to_string(mesh));
  GIMBAL_CHECK(
      settings_.tensor_parallel_efficiency > 0.5 && settings_.tensor_parallel_efficiency <= 1,
      "tensor_parallel_efficiency ", settings_.tensor_parallel_efficiency);
  const std::string fingerprint = model_fingerprint(model_);
  GIMBAL_USER_CHECK(profile_.model_fingerprint.empty() || profile_.model_fingerprint == fingerprint,
                    "the profile of '", profile_.hardware, "' was made for a ", profile_.model_type,
                    " model of other sizes (fingerprint ", profile_.model_fingerprint.substr(0, 12),
                    ", not ", fingerprint.substr(0, 12), "); run `gimbal profile` with this model");
  if (settings_.frozen.empty()) settings_.frozen.assign(num_blocks(), false);
  needs_ = gradient_needs(model_, settings_.frozen);
  if (mesh.pp > 1) pipeline_link_ = link(mesh.pp, mesh.devices() / mesh.pp, "pp");
  for (std::size_t b = 0; b < num_blocks(); ++b) {
    const bool has_backward = needs_[b].inputs || needs_[b].weights;
    levels_.push_back(has_backward ? recompute_levels(model_.blocks[b])
                                   : std::vector<Recompute>{Recompute::kKeep});
    lines_.push_back(block_lines(b));
    states_.push_back(block_state(b));
  }
}

LinkCost CostModel::link(int ranks, int stride, const char* axis) const {
  const LinkTable& links = profile_.links;
  const bool one_node = settings_.mesh.devices() <= links.devices_per_node;
  const LinkCost& found = one_node ? links.inside_node : group_link(links, ranks, stride);
  const std::string measure =
      profile_.origin == "measured"
          ? concat("measure again with `gimbal profile --nproc ", settings_.mesh.devices(),
                   "` when this machine has them all, ")
          : "";
  GIMBAL_USER_CHECK(found.bytes_per_second > 0, "the profile of '", profile_.hardware,
                    "' has no link ", one_node ? "inside a node" : "between nodes", ", which ",
                    axis, " ", ranks, " needs on ", settings_.mesh.devices(), " devices, ",
                    links.devices_per_node, " in a node; ", measure,
                    "give the link's bytes_per_second in the profile, or plan for "
                    "fewer devices");
  return found;
}

double CostModel::at(const BlockLines& lines, const CostLine& line, const WorkSize& work) const {
  return line.at(work.*lines.rows, lines.pairs != nullptr ? work.*lines.pairs : 0.0);
}

const std::vector<Recompute>& CostModel::levels(std::size_t block) const { return levels_[block]; }

Seconds CostModel::forward(std::size_t block, const WorkSize& work) const {
  return at(lines_[block], lines_[block].forward, work);
}

Seconds CostModel::backward(std::size_t block, const WorkSize& work) const {
  return backward_input(block, work) + backward_weight(block, work);
}

Seconds CostModel::backward_input(std::size_t block, const WorkSize& work) const {
  return at(lines_[block], lines_[block].backward_input, work);
}

Seconds CostModel::backward_weight(std::size_t block, const WorkSize& work) const {
  return at(lines_[block], lines_[block].backward_weight, work);
}

Seconds CostModel::recompute(std::size_t block, const WorkSize& work, Recompute level) const {
  return at(lines_[block], lines_[block].recompute[level_index(level)], work);
}

Seconds CostModel::forward_communication(std::size_t block, const WorkSize& work) const {
  return at(lines_[block], lines_[block].forward_messages, work);
}

Seconds CostModel::backward_communication(std::size_t block, const WorkSize& work) const {
  return at(lines_[block], lines_[block].backward_messages, work);
}

Seconds CostModel::recompute_communication(std::size_t block, const WorkSize& work,
                                           Recompute level) const {
  return at(lines_[block], lines_[block].recompute_messages[level_index(level)], work);
}

Bytes CostModel::saved(std::size_t block, const WorkSize& work, Recompute level) const {
  return at(lines_[block], lines_[block].saved[level_index(level)], work);
}

Bytes CostModel::forward_workspace(std::size_t block, const WorkSize& work) const {
  return at(lines_[block], lines_[block].forward_workspace, work);
}

Bytes CostModel::backward_workspace(std::size_t block, const WorkSize& work,
                                    Recompute level) const {
  return at(lines_[block], lines_[block].backward_workspace[level_index(level)], work);
}

Bytes CostModel::state_bytes(std::size_t block) const { return states_[block].state; }

Bytes CostModel::gathered_bytes(std::size_t block) const { return states_[block].gathered; }

Bytes CostModel::whole_gradient_bytes(std::size_t block) const {
  return states_[block].whole_gradient;
}

Bytes CostModel::cut_bytes(std::size_t block, const WorkSize& work) const {
  const WorkSize& per_row = lines_[block].cut_bytes_per_row;
  return per_row.text_rows * work.text_rows + per_row.loss_rows * work.loss_rows +
         per_row.vision_rows * work.vision_rows;
}

Seconds CostModel::send_seconds(Bytes bytes) const {
  return settings_.mesh.pp > 1 ? pipeline_link_.seconds(bytes) : 0;
}

Seconds CostModel::gather_seconds(std::size_t block) const { return states_[block].gather; }

Seconds CostModel::reduce_seconds(std::size_t block) const { return states_[block].reduce; }

Seconds CostModel::optimizer_seconds(std::size_t block) const { return states_[block].optimizer; }

}  // namespace gimbal
