// The sizes that `gimbal balance` is given.
#pragma once

#include <string>
#include <vector>

#include "gimbal/data/length_table.h"

namespace gimbal::cli {

/// Reads CSV files, files that Python reads (Parquet, .npy, .npz) or one dataset folder. Throws
/// UserError for what is none of these.
LengthTable read_balance_input(const std::vector<std::string>& files);

}  // namespace gimbal::cli
