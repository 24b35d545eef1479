#include "gimbal/train/stop/out_of_memory.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace gimbal {
namespace {

TEST(OutOfMemory, WhatTheAllocatorThrowsIsRecognised) {
  try {
    at::empty({std::int64_t{1} << 46});
    FAIL() << "256 TiB were allocated";
  } catch (const std::exception& error) {
    EXPECT_TRUE(is_out_of_memory(error)) << error.what();
  }
  EXPECT_FALSE(is_out_of_memory(std::runtime_error("shapes do not match")));
}

}  // namespace
}  // namespace gimbal
