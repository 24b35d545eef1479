// A transformer layer, embedding and loss on the ports, against the same with all weights and rows
// on one rank.
#include <ATen/ops/arange.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/remainder.h>
#include <gtest/gtest.h>

#include <iostream>

#include "gimbal/nn/attention/attention.h"
#include "gimbal/nn/ops/rms_norm.h"
#include "gimbal/nn/ops/swiglu.h"
#include "ports_cases.h"

namespace gimbal {
namespace {

using namespace testing_ports;
using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

struct LayerSizes {
  std::int64_t rows, num_heads, num_kv, head_dim = 4, width = 12, ffn, vocab;
  std::vector<std::int64_t> cu_seqlens;
};

// Weights in the order of `cuts`: which dim is cut over tp, in units of how many indices.
struct WeightCut {
  const char* name;
  int dim;  // -1: whole
  std::int64_t units;
};

std::vector<WeightCut> weight_cuts(const LayerSizes& s) {
  return {{"embed", 0, s.vocab}, {"norm1", -1, 1},   {"q", 0, s.num_kv},  {"k", 0, s.num_kv},
          {"v", 0, s.num_kv},    {"o", 1, s.num_kv}, {"norm2", -1, 1},    {"gate", 0, s.ffn},
          {"up", 0, s.ffn},      {"down", 1, s.ffn}, {"head", 0, s.vocab}};
}

std::vector<at::Tensor> full_weights(const LayerSizes& s, SharedRandom& random) {
  const std::int64_t q = s.num_heads * s.head_dim, kv = s.num_kv * s.head_dim;
  const std::vector<std::vector<std::int64_t>> shapes{
      {s.vocab, s.width}, {s.width},        {q, s.width},      {kv, s.width},
      {kv, s.width},      {s.width, q},     {s.width},         {s.ffn, s.width},
      {s.ffn, s.width},   {s.width, s.ffn}, {s.vocab, s.width}};
  std::vector<at::Tensor> weights;
  for (const auto& shape : shapes) weights.push_back(random.normal(shape) * 0.5);
  return weights;
}

at::Tensor own_weight(const at::Tensor& full, const WeightCut& cut, const LinearComm& tp) {
  if (cut.dim < 0) return full;
  const RowSplit units = tp.units(cut.units);
  const std::int64_t unit = full.size(cut.dim) / cut.units;
  return full.narrow(cut.dim, units.own_begin() * unit, units.own_size() * unit);
}

struct LayerInput {
  at::Tensor ids, targets, loss_weights;
};

// The loss of this rank's sequence part.
at::Tensor run_layer(const LayerSizes& s, const Ports& ports, const std::vector<at::Tensor>& w,
                     const LayerInput& in) {
  const SequenceExchange& sequence = *ports.sequence;
  const LinearComm& linear = *ports.linear;
  const RowSplit split = sequence.split(s.rows), sequence_split = sequence.sequence_split(s.rows);
  const std::int64_t kv = linear.units(s.num_kv).own_size();
  const std::int64_t heads = kv * (s.num_heads / s.num_kv), part_rows = sequence_split.own_size();
  const auto by_head = [&](const at::Tensor& x, std::int64_t n) {
    return x.view({part_rows, n, s.head_dim});
  };
  const at::Tensor ids = own_rows(in.ids, sequence_split);
  at::Tensor x = linear.scatter_sum_rows(ports.vocab->embed(w[0], ids, s.vocab, 3), split);

  at::Tensor y = linear.gather_rows(rms_norm(x, w[1], 1e-6), split);
  const at::Tensor q = sequence.start_to_heads(by_head(at::linear(y, w[2]), heads), sequence_split);
  const at::Tensor k =
      sequence.start_kv_to_heads(by_head(at::linear(y, w[3]), kv), sequence_split, heads);
  const at::Tensor v =
      sequence.start_kv_to_heads(by_head(at::linear(y, w[4]), kv), sequence_split, heads);
  const at::Tensor q_TnH = sequence.finish(q), k_TkH = sequence.finish(k),
                   v_TkH = sequence.finish(v);
  const at::Tensor out =
      sequence.to_rows(causal_attention(q_TnH, k_TkH, v_TkH, s.cu_seqlens), sequence_split, heads);
  x = x + linear.scatter_sum_rows(at::linear(out.reshape({part_rows, heads * s.head_dim}), w[5]),
                                  split);

  y = linear.gather_rows(rms_norm(x, w[6], 1e-6), split);
  const at::Tensor gated = silu_mul(at::linear(y, w[7]), at::linear(y, w[8]));
  x = x + linear.scatter_sum_rows(at::linear(gated, w[9]), split);
  y = linear.gather_rows(x, split);
  return ports.vocab->linear_cross_entropy(y, w[10], own_rows(in.targets, sequence_split),
                                           own_rows(in.loss_weights, sequence_split), s.vocab, 5);
}

at::Tensor summed(Comm& ranks, const at::Tensor& x) {
  at::Tensor sum = x.detach().contiguous().clone();
  if (ranks.size() > 1) ranks.all_reduce_sum(sum, "sum of the test")->wait();
  return sum;
}

std::vector<at::Tensor> leaves(const std::vector<at::Tensor>& tensors, at::ScalarType dtype) {
  std::vector<at::Tensor> result;
  for (const at::Tensor& tensor : tensors) result.push_back(leaf(tensor.to(dtype)));
  return result;
}

void check_layer(const PortsRank& rank, SharedRandom& random) {
  const std::int64_t group = random.between(1, 4);
  LayerSizes s{.rows = random.between(1, 30),
               .num_heads = 0,
               .num_kv = 0,
               .ffn = 0,
               .vocab = 0,
               .cu_seqlens = {}};
  // Attention wants a head on every rank: tp parts of kv heads, sp parts of the queries of each.
  s.num_kv = rank.tp + random.between(0, 3);
  s.num_heads = s.num_kv * group * rank.sp;
  s.ffn = random.between(7, 20);
  s.vocab = random.between(10, 30);
  s.cu_seqlens = {0, random.between(0, s.rows), s.rows};
  const at::Tensor order = at::arange(s.rows, at::kLong);
  const LayerInput in{.ids = at::remainder(order * 7 + random.between(0, 5), s.vocab),
                      .targets = at::remainder(order * 5 + random.between(0, 5), s.vocab),
                      .loss_weights = random.normal({s.rows}, at::kFloat).abs()};
  const auto full = full_weights(s, random);
  const auto expected_leaves = leaves(full, at::kDouble);
  const at::Tensor expected = run_layer(s, local_ports(), expected_leaves, in);
  const auto expected_gradients = torch::autograd::grad({expected}, expected_leaves);

  const auto cuts = weight_cuts(s);
  std::vector<at::Tensor> own;
  for (std::size_t i = 0; i < full.size(); ++i)
    own.push_back(own_weight(full[i], cuts[i], *rank.ports.linear));
  // float64 shows that nothing is missing; float32 that nothing is computed in less.
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
    const auto own_leaves = leaves(own, dtype);
    const at::Tensor loss = run_layer(s, rank.ports, own_leaves, in);
    // Some hundred roundings on the way from the embedding to the loss and back.
    constexpr double kRoundings = 300;
    expect_near(summed(rank.mesh.sp(), loss), expected, kRoundings, "loss");
    const auto gradients = torch::autograd::grad({loss}, own_leaves);
    for (std::size_t i = 0; i < own.size(); ++i) {
      Comm& replicas = cuts[i].dim < 0 ? rank.mesh.pack() : rank.mesh.sp();
      expect_near(summed(replicas, gradients[i]),
                  own_weight(expected_gradients[i], cuts[i], *rank.ports.linear), kRoundings,
                  concat("gradient of ", cuts[i].name));
    }
  }
}

const Worker kLayer("ports_layer", [] { on_all_meshes(5, check_layer); });

TEST(DistPorts, LayerEqualsTheLocalOne) {
  const std::uint64_t seed = rc::detail::configuration().testParams.seed % 1000000;
  for (const int size : {2, 4})
    for (const WorkerResult& result :
         run_workers("ports_layer", size, {{"PORTS_SEED", std::to_string(seed)}})) {
      EXPECT_EQ(result.exit_code, 0);
      EXPECT_EQ(result.output, size == 2 ? "10 runs" : "15 runs");
    }
}

}  // namespace
}  // namespace gimbal
