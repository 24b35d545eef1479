// Running out of memory, with the samples that were too much.
#pragma once

#include <exception>
#include <string>

#include "gimbal/data/dataset.h"
#include "gimbal/tensor/batch.h"

namespace gimbal {

/// True for what the CPU's and the GPU's allocators throw when memory does not suffice.
bool is_out_of_memory(const std::exception& error);

/// What to tell the user: the samples of the micro-batch with their sizes, and which options help.
std::string out_of_memory_message(const Dataset& dataset, const Batch& batch,
                                  const std::string& detail);

}  // namespace gimbal
