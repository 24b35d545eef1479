#include <gtest/gtest.h>

#include "workers.h"

int main(int argc, char** argv) {
  int exit_code = 0;
  if (gimbal::testing_workers::run_as_worker(argc, argv, exit_code)) return exit_code;
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
