// What the tests of the ports share: a mesh over sp and tp, random cases that are the same on all
// ranks, and comparisons that end the worker.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/randn.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "gimbal/base/error.h"
#include "gimbal/parallel/mesh.h"
#include "gimbal/parallel/ports.h"
#include "unit/balance/check_cases.h"
#include "workers.h"

namespace gimbal::testing_ports {

/// Numbers and tensors that all ranks draw alike, as long as they draw in the same order.
class SharedRandom {
 public:
  explicit SharedRandom(std::uint64_t seed) : random_(seed) {}

  /// Uniform in [low, high).
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return testing::between<std::int64_t>(low, high)(random_.split()).value();
  }
  at::Tensor normal(at::IntArrayRef shape, at::ScalarType dtype = at::kDouble) {
    const auto seed = static_cast<std::uint64_t>(between(0, 1 << 30));
    return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed),
                     at::TensorOptions().dtype(at::kDouble))
        .to(dtype);
  }
  /// Parts with any borders, many of them empty.
  RowSplit any_split(std::int64_t total, int parts, int own) {
    RowSplit split;
    split.own = own;
    split.begins = {0, total};
    for (int i = 1; i < parts; ++i) split.begins.push_back(between(0, total + 1));
    std::ranges::sort(split.begins);
    return split;
  }

 private:
  rc::Random random_;
};

/// One rank of a mesh over sp and tp.
struct PortsRank {
  const Mesh& mesh;
  const Ports ports = make_mesh_ports(mesh.tp(), mesh.sp(), mesh.pack());
  int tp = mesh.tp().size(), sp = mesh.sp().size(), parts = tp * sp;
  int own = mesh.pack().rank();
};

inline at::Tensor rows(const at::Tensor& x, const RowSplit& split, int part) {
  return x.narrow(0, split.begin(part), split.size(part));
}
inline at::Tensor own_rows(const at::Tensor& x, const RowSplit& split) {
  return rows(x, split, split.own);
}
inline at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().requires_grad_(true); }
inline at::Tensor gradient(const at::Tensor& y, const at::Tensor& x, const at::Tensor& seed) {
  return torch::autograd::grad({y}, {x}, {seed})[0];
}

inline void expect_equal(const at::Tensor& ours, const at::Tensor& expected,
                         const std::string& what) {
  GIMBAL_CHECK(ours.sizes() == expected.sizes(), "", what, ": ", ours.sizes(), " vs ",
               expected.sizes());
  GIMBAL_CHECK(ours.equal(expected), "", what, ":\n", ours, "\nvs\n", expected);
}

/// |ours - expected| <= c * eps(dtype of ours) * (1 + norm of expected).
inline void expect_near(const at::Tensor& ours, const at::Tensor& expected, double c,
                        const std::string& what) {
  GIMBAL_CHECK(ours.sizes() == expected.sizes(), "", what, ": ", ours.sizes(), " vs ",
               expected.sizes());
  const double eps = ours.scalar_type() == at::kDouble     ? 2.3e-16
                     : ours.scalar_type() == at::kBFloat16 ? 7.9e-3
                                                           : 1.2e-7;
  const at::Tensor wide = expected.to(at::kDouble);
  const double error = (ours.to(at::kDouble) - wide).norm().item<double>();
  const double allowed = c * eps * (1 + wide.norm().item<double>());
  GIMBAL_CHECK(error <= allowed, "", what, ": error ", error, ", allowed ", allowed);
}

/// Runs `check` on every mesh of sp and tp over all processes, `cases` times each, and prints how
/// often.
template <typename Check>
void on_all_meshes(int cases, const Check& check) {
  const auto world = make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(60));
  const int size = world->world().size();
  int runs = 0;
  for (int sp = 1; sp <= size; ++sp) {
    if (size % sp != 0) continue;
    const Mesh mesh(*world, MeshShape{.sp = sp, .tp = size / sp}, "sp" + std::to_string(sp));
    const PortsRank rank{mesh};
    const auto seed = std::strtoull(std::getenv("PORTS_SEED"), nullptr, 10);
    for (int i = 0; i < cases; ++i, ++runs) {
      SharedRandom random(seed + static_cast<std::uint64_t>(1000 * sp + i));
      try {
        check(rank, random);
      } catch (const std::exception& e) {
        const std::string where = concat("sp ", sp, ", tp ", rank.tp, ", rank ", rank.own,
                                         ", case ", i, ", PORTS_SEED ", seed, ": ", e.what());
        const InternalError error(where);
        world->report_failure(error);
        throw error;
      }
    }
  }
  std::cout << runs << " runs";
}

}  // namespace gimbal::testing_ports
