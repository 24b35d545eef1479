// The length files of bench/balance/lengths: three public data sets with vision tiles and tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gimbal/balance/sizes.h"

namespace gimbal::testing {

struct RealLengths {
  std::vector<std::uint32_t> rows;
  std::vector<std::uint32_t> sources;

  SampleSizes sizes() const { return {rows, 2}; }
};

/// The three files together, one source each.
inline RealLengths real_lengths() {
  const auto folder =
      std::filesystem::path(__FILE__).parent_path() / "../../../bench/balance/lengths";
  RealLengths all;
  std::uint32_t source = 0;
  for (const char* name : {"ai2d_12k.csv", "chartqa_18k.csv", "docvqa_10k.csv"}) {
    std::ifstream in(folder / name);
    if (!in) throw std::runtime_error("cannot read " + (folder / name).string());
    std::string line;
    std::getline(in, line);  // header
    while (std::getline(in, line)) {
      const auto comma = line.find(',');
      all.rows.push_back(static_cast<std::uint32_t>(std::stoul(line.substr(0, comma))));
      all.rows.push_back(static_cast<std::uint32_t>(std::stoul(line.substr(comma + 1))));
      all.sources.push_back(source);
    }
    ++source;
  }
  return all;
}

}  // namespace gimbal::testing
