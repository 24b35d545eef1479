// `gimbal profile`: what a recipe's model costs on this machine, measured.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "gimbal/config/recipe.h"
#include "gimbal/cost/profile_table.h"
#include "gimbal/profile/measure_blocks.h"
#include "gimbal/profile/measure_links.h"
#include "gimbal/train/build.h"
#include "gimbal/train/tape/tape_runner.h"

namespace gimbal {

struct ProfileRunOptions {
  double seconds = 30;                 // for the blocks; links and optimizer take a few more
  PassClock clock = PassClock::kWall;  // of the blocks
  /// Told what is done now and the share that is done.
  std::function<void(const std::string& what, double share)> progress;
};

struct ProfileRun {
  ProfileTable table;
  BlockMeasurements blocks;
  LinkMeasurements links;
  std::size_t measured_blocks = 0;    // of the model's; the others cost as those of their class
  std::vector<std::string> warnings;  // what makes the table doubtful; among its notes, too
};

/// Measures the model of model.path with random weights in model.dtype, on packs of samples of
/// data.train (without it: of typical samples) up to balance.text_cap and vision_cap, with
/// train.threads. Of a large model some blocks of each class are run. Needs no free run folder.
/// parallel.* is not used: each process measures whole blocks, and a note says so when the recipe
/// divides them. Collective: all ranks measure at the same time; the table is that of rank 0.
/// Throws UserError for a model, a dataset or caps that cannot be used, and for processor time with
/// several threads.
ProfileRun profile_run(const Recipe& recipe, const ProfileRunOptions& options, Runtime& runtime);

/// Leaves out blocks beyond the first `most` of each cost class.
void shorten_model(Model& model, std::size_t most);

}  // namespace gimbal
