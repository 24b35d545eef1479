#include "gimbal/profile/measure_links.h"

#include <gtest/gtest.h>

#include "gimbal/cost/communication.h"
#include "gimbal/profile/machine.h"

namespace gimbal {
namespace {

TEST(MeasureLinks, OneProcessHasNone) {
  const auto alone = make_single_comm();
  const LinkMeasurements measured = measure_links(*alone);
  EXPECT_TRUE(measured.samples.empty());
  EXPECT_EQ(measured.link.bytes_per_second, 0);
  EXPECT_EQ(link_table(measured.link, 1, 1).inside_node.bytes_per_second, 0);
}

TEST(MeasureLinks, FitsWhatTheCostModelComputes) {
  // Samples of a known link by the formulas that predictions use come back as that link.
  const LinkCost link{2e-5, 3e9};
  constexpr int kRanks = 4;
  std::vector<LinkSample> samples;
  for (const double bytes : {4096.0, 262144.0, 4194304.0}) {
    samples.push_back({"all_reduce", bytes, all_reduce_seconds(link, kRanks, bytes),
                       2.0 * (kRanks - 1), bytes / kRanks});
    samples.push_back({"all_gather", bytes * kRanks,
                       all_gather_seconds(link, kRanks, bytes * kRanks), kRanks - 1.0, bytes});
  }
  const LinkMeasurements fitted = fit_link(samples);
  EXPECT_NEAR(fitted.link.latency, link.latency, 1e-9);
  EXPECT_NEAR(fitted.link.bytes_per_second, link.bytes_per_second, 1e3);
  EXPECT_LT(fitted.residual, 1e-6);
}

TEST(MeasureLinks, TableHasTheLinksThatThereAre) {
  const LinkCost link{1e-5, 1e9};
  const LinkTable one_node = link_table(link, 4, 4);
  EXPECT_EQ(one_node.inside_node.bytes_per_second, 1e9);
  EXPECT_EQ(one_node.between_nodes.bytes_per_second, 0);
  EXPECT_EQ(one_node.devices_per_node, 4);
  EXPECT_EQ(link_table(link, 8, 4).between_nodes.bytes_per_second, 1e9);
}

TEST(Machine, HasANameAndMemory) {
  const c10::Device cpu(c10::kCPU);
  EXPECT_NE(machine_name(cpu, 3).find("3 threads"), std::string::npos);
  const double all = machine_memory_bytes(cpu, 1);
  EXPECT_GT(all, 1 << 26);
  EXPECT_EQ(machine_memory_bytes(cpu, 4), all / 4);
}

}  // namespace
}  // namespace gimbal
