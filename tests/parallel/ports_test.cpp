#include "gimbal/parallel/ports.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include <iostream>

#include "gimbal/nn/loss/linear_cross_entropy.h"
#include "ports_cases.h"

namespace gimbal {
namespace {

using namespace testing_ports;
using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

constexpr at::ScalarType kDtypes[] = {at::kDouble, at::kFloat, at::kBFloat16};

// Part p of the vision or text rows, as the ports cut them; 2 or 3 dims.
std::vector<std::int64_t> row_shape(SharedRandom& random, std::int64_t total) {
  std::vector<std::int64_t> shape{total, random.between(1, 4)};
  if (random.between(0, 2) == 1) shape.push_back(random.between(1, 4));
  return shape;
}

// Sum in the order of the parts, as the ports promise: float32 for bfloat16.
at::Tensor sum_in_order(const std::vector<at::Tensor>& parts) {
  const at::ScalarType dtype = parts[0].scalar_type();
  at::Tensor sum = parts[0].to(dtype == at::kBFloat16 ? at::kFloat : dtype);
  for (std::size_t i = 1; i < parts.size(); ++i) sum = sum + parts[i];
  return sum.to(dtype);
}

void check_tensor_rows(const PortsRank& rank, SharedRandom& random) {
  const std::int64_t unit = random.between(1, 4), total = unit * random.between(0, 14);
  const at::ScalarType dtype = kDtypes[random.between(0, 3)];
  const auto shape = row_shape(random, total);
  const RowSplit split = rank.ports.sequence->split(total, unit);
  GIMBAL_CHECK(split == split_rows(total, rank.parts, rank.own, unit));
  const RowSplit sequence = rank.ports.sequence->sequence_split(total, unit);
  GIMBAL_CHECK(sequence == split_rows(total, rank.sp, rank.own / rank.tp, unit));
  const at::Tensor x = random.normal(shape, dtype), own_g = random.normal(shape, dtype);
  std::vector<at::Tensor> of_tp;  // of each tp rank, over the whole pack
  for (int t = 0; t < rank.tp; ++t) of_tp.push_back(random.normal(shape, dtype));
  const auto t = static_cast<std::size_t>(rank.own % rank.tp);
  std::vector<at::Tensor> of_own_rows;
  for (const at::Tensor& tensor : of_tp) of_own_rows.push_back(own_rows(tensor, split));

  const LinearComm& linear = *rank.ports.linear;
  const at::Tensor own = leaf(own_rows(x, split));
  const at::Tensor gathered = linear.gather_rows(own, split);
  expect_equal(gathered, own_rows(x, sequence), "gather_rows");
  expect_equal(gradient(gathered, own, own_rows(of_tp[t], sequence)), sum_in_order(of_own_rows),
               "gradient of gather_rows");

  const at::Tensor partial = leaf(own_rows(of_tp[t], sequence));
  const at::Tensor scattered = linear.scatter_sum_rows(partial, split);
  expect_equal(scattered, sum_in_order(of_own_rows), "scatter_sum_rows");
  expect_equal(gradient(scattered, partial, own_rows(own_g, split)), own_rows(own_g, sequence),
               "gradient of scatter_sum_rows");
}

void check_moves(const PortsRank& rank, SharedRandom& random) {
  const std::int64_t total = random.between(0, 30);
  const at::ScalarType dtype = kDtypes[random.between(0, 3)];
  const auto shape = row_shape(random, total);
  const SequenceExchange& sequence = *rank.ports.sequence;
  const RowSplit from = random.any_split(total, rank.parts, rank.own),
                 to = random.any_split(total, rank.parts, rank.own);
  const at::Tensor x = random.normal(shape, dtype), g = random.normal(shape, dtype);
  for (const RowSplit& target : {to, from}) {
    const at::Tensor own = leaf(own_rows(x, from));
    const at::Tensor moved = sequence.move_rows(own, from, target);
    expect_equal(moved, own_rows(x, target), "move_rows");
    // A gradient that does not lie in one piece.
    const at::Tensor seed = own_rows(g, target).transpose(0, 1).contiguous().transpose(0, 1);
    expect_equal(gradient(moved * 1, own, seed), own_rows(g, from), "gradient of move_rows");
  }
  std::vector<at::Tensor> seeds, of_own_rows;
  for (int part = 0; part < rank.parts; ++part) {
    seeds.push_back(random.normal(shape, dtype));
    of_own_rows.push_back(own_rows(seeds.back(), from));
  }
  const at::Tensor own = leaf(own_rows(x, from));
  const at::Tensor all = sequence.all_rows(own, from);
  expect_equal(all, x, "all_rows");
  expect_equal(gradient(all, own, seeds[static_cast<std::size_t>(rank.own)]),
               sum_in_order(of_own_rows), "gradient of all_rows");
  const at::Tensor ids = at::arange(total, at::kLong);
  expect_equal(sequence.all_rows(own_rows(ids, from), from), ids, "all_rows of integers");
}

void check_sums_and_columns(const PortsRank& rank, SharedRandom& random) {
  const LinearComm& linear = *rank.ports.linear;
  const std::vector<std::int64_t> shape{random.between(0, 5), random.between(1, 4)};
  std::vector<at::Tensor> xs, gs;
  for (int t = 0; t < rank.tp; ++t) {
    xs.push_back(random.normal(shape));
    gs.push_back(random.normal(shape));
  }
  const auto t = static_cast<std::size_t>(rank.own % rank.tp);
  const at::Tensor x = leaf(xs[t]);
  const at::Tensor y = linear.sum(x);
  // The order of an all-reduce is the group's own: a rounding per rank.
  expect_near(y, sum_in_order(xs), rank.tp, "sum");
  expect_near(gradient(y, x, gs[t]), sum_in_order(gs), rank.tp, "gradient of sum");
  expect_equal(x.detach(), xs[t], "input of sum");

  const std::int64_t num_columns = random.between(0, 11);
  const RowSplit units = linear.units(num_columns);
  GIMBAL_CHECK(units == split_rows(num_columns, rank.tp, static_cast<int>(t)));
  const at::Tensor whole = random.normal({shape[0], 2, num_columns}, at::kFloat);
  expect_equal(
      linear.gather_columns(whole.narrow(2, units.own_begin(), units.own_size()), num_columns),
      whole, "gather_columns");
}

void check_heads(const PortsRank& rank, SharedRandom& random) {
  const SequenceExchange& sequence = *rank.ports.sequence;
  const std::int64_t total = random.between(0, 12), num_kv = random.between(1, 4);
  // Every third case: 25 query heads on as many kv heads.
  const bool many = random.between(0, 3) == 0;
  const std::int64_t kv_heads = many ? 25 : num_kv, group = many ? 1 : random.between(1, 8);
  const std::int64_t num_heads = kv_heads * group, head_dim = random.between(1, 5);
  const at::ScalarType dtype = kDtypes[random.between(0, 3)];
  const RowSplit split = sequence.sequence_split(total);
  const RowSplit heads = split_rows(num_heads, rank.sp, split.own);
  const auto normal = [&](std::int64_t n) { return random.normal({total, n, head_dim}, dtype); };
  const at::Tensor q_full = normal(num_heads), k_full = normal(kv_heads), v_full = normal(kv_heads);
  const at::Tensor q = leaf(own_rows(q_full, split)), k = leaf(own_rows(k_full, split)),
                   v = leaf(own_rows(v_full, split));
  const at::Tensor q_started = sequence.start_to_heads(q, split),
                   k_started = sequence.start_kv_to_heads(k, split, num_heads),
                   v_started = sequence.start_kv_to_heads(v * 1, split, num_heads);
  const at::Tensor v_TkH = sequence.finish(v_started), q_TnH = sequence.finish(q_started),
                   k_TkH = sequence.finish(k_started);
  const std::int64_t n = sequence.local_heads(num_heads),
                     local_kv = sequence.local_kv_heads(kv_heads, num_heads);
  GIMBAL_CHECK_EQ(n, heads.own_size());
  GIMBAL_CHECK_EQ(k_TkH.size(1), local_kv);
  const auto own_heads = [&](const at::Tensor& x) {
    return x.narrow(1, heads.own_begin(), heads.own_size());
  };
  expect_equal(q_TnH, own_heads(q_full), "queries");
  // Each query head finds its kv head where attention looks for it.
  const auto for_queries = [&](const at::Tensor& x) {
    return local_kv == 0 ? x : x.repeat_interleave(n / local_kv, 1);
  };
  const at::Tensor k_TnH = for_queries(k_TkH), v_TnH = for_queries(v_TkH);
  expect_equal(k_TnH, own_heads(k_full.repeat_interleave(group, 1)), "keys");
  expect_equal(v_TnH, own_heads(v_full.repeat_interleave(group, 1)), "values");

  const at::Tensor gq = normal(num_heads), gk = normal(num_heads), gv = normal(num_heads);
  const auto gradients = torch::autograd::grad({q_TnH, k_TnH, v_TnH}, {q, k, v},
                                               {own_heads(gq), own_heads(gk), own_heads(gv)});
  expect_equal(gradients[0], own_rows(gq, split), "gradient of queries");
  const auto summed = [&](const at::Tensor& g) {
    return own_rows(g, split)
        .to(at::kDouble)
        .view({split.own_size(), kv_heads, group, head_dim})
        .sum(2);
  };
  // Up to 7 additions, in an order of their own.
  expect_near(gradients[1], summed(gk), 8, "gradient of keys");
  expect_near(gradients[2], summed(gv), 8, "gradient of values");

  const at::Tensor out_TnH = leaf(own_heads(q_full));
  const at::Tensor out_sNH = sequence.to_rows(out_TnH, split, num_heads);
  expect_equal(out_sNH, own_rows(q_full, split), "to_rows");
  expect_equal(gradient(out_sNH, out_TnH, own_rows(gq, split)), own_heads(gq),
               "gradient of to_rows");
  if (rank.sp > 1) {
    bool refused = false;
    try {
      sequence.finish(q_started);
    } catch (const InternalError&) {
      refused = true;
    }
    GIMBAL_CHECK(refused, "finished twice");
  }
}

// Tensors on the whole vocabulary and this rank's cut of it.
struct VocabCase {
  std::int64_t size, width;
  RowSplit cut;
  at::Tensor table;
  VocabCase(const PortsRank& rank, SharedRandom& random, at::ScalarType dtype)
      : size(random.between(1, 40)),
        width(random.between(1, 9)),
        cut(rank.ports.linear->units(size)),
        table(random.normal({size, width}, dtype)) {}
  at::Tensor own() const { return leaf(own_rows(table, cut)); }
};

at::Tensor random_ids(SharedRandom& random, std::int64_t size, std::int64_t vocab) {
  at::Tensor ids = at::zeros({size}, at::kLong);
  for (std::int64_t i = 0; i < size; ++i) ids[i] = random.between(0, vocab);
  return ids;
}

// Sequence parts have tokens of their own: drawn for all of them, the own part's are returned.
template <typename Draw>
at::Tensor of_own_part(const PortsRank& rank, const Draw& draw) {
  at::Tensor own;
  for (int q = 0; q < rank.sp; ++q) {
    const at::Tensor drawn = draw();
    if (q == rank.own / rank.tp) own = drawn;
  }
  return own;
}

void check_embed(const PortsRank& rank, SharedRandom& random) {
  const VocabCase vocab(rank, random, at::kDouble);
  const at::Tensor ids =
      of_own_part(rank, [&] { return random_ids(random, random.between(0, 12), vocab.size); });
  const std::int64_t padding = random.between(-1, vocab.size);
  const at::Tensor own = vocab.own(), whole = leaf(vocab.table);
  const at::Tensor partial = rank.ports.vocab->embed(own, ids, vocab.size, padding);
  const at::Tensor expected = at::embedding(whole, ids, padding);
  // All but one rank add zeros.
  expect_equal(rank.ports.linear->sum(partial.detach()), expected, "embed");
  const at::Tensor g = of_own_part(rank, [&] {
                         return random.normal({12, vocab.width});
                       }).narrow(0, 0, ids.size(0));
  expect_equal(gradient(partial, own, g), own_rows(gradient(expected, whole, g), vocab.cut),
               "gradient of embed");
}

void check_loss(const PortsRank& rank, SharedRandom& random) {
  const at::ScalarType dtype = kDtypes[random.between(0, 3)];
  const VocabCase vocab(rank, random, dtype);
  // The counts differ between the sequence parts, down to none.
  const at::Tensor targets =
      of_own_part(rank, [&] { return random_ids(random, random.between(0, 12), vocab.size); });
  const std::int64_t count = targets.size(0), chunk = random.between(1, 15);
  const auto draw = [&](std::vector<std::int64_t> shape) {
    return of_own_part(rank, [&] { return random.normal(shape); }).narrow(0, 0, count);
  };
  const at::Tensor x_whole = draw({12, vocab.width}).to(dtype);
  const at::Tensor weights = draw({12}).abs().to(at::kFloat);
  const at::Tensor x = leaf(x_whole), own = vocab.own();
  const at::Tensor loss =
      rank.ports.vocab->linear_cross_entropy(x, own, targets, weights, vocab.size, chunk);
  const auto gradients = torch::autograd::grad({loss * 3}, {x, own});
  const at::Tensor x_wide = leaf(x_whole.to(at::kDouble)),
                   w_wide = leaf(vocab.table.to(at::kDouble));
  const at::Tensor expected = linear_cross_entropy(x_wide, w_wide, targets, weights, 1000);
  const auto expected_gradients = torch::autograd::grad({expected * 3}, {x_wide, w_wide});
  GIMBAL_CHECK(loss.scalar_type() == (dtype == at::kDouble ? at::kDouble : at::kFloat));
  // Logits of bfloat16 products have its eps; else tens of roundings of exponentials and sums.
  if (dtype == at::kBFloat16)
    expect_near(loss.to(at::kBFloat16), expected, 4, "loss");
  else
    expect_near(loss, expected, 30, "loss");
  const double c = dtype == at::kBFloat16 ? 4 : 30;
  expect_near(rank.ports.linear->sum(gradients[0]), expected_gradients[0], c, "gradient of x");
  expect_near(gradients[1], own_rows(expected_gradients[1], vocab.cut), c, "gradient of w");
  const at::Tensor all = rank.mesh.tp().all_gather(loss.detach().view({1}), "losses");
  GIMBAL_CHECK(all.eq(all[0]).all().item<bool>(), "losses of the ranks: ", all);
  const at::NoGradGuard no_grad;
  expect_equal(rank.ports.vocab->linear_cross_entropy(x, own, targets, weights, vocab.size, chunk),
               loss, "loss without gradients");
}

const Worker kRows("ports_rows", [] { on_all_meshes(25, check_tensor_rows); });
const Worker kMoves("ports_moves", [] { on_all_meshes(25, check_moves); });
const Worker kSums("ports_sums", [] { on_all_meshes(10, check_sums_and_columns); });
const Worker kHeads("ports_heads", [] { on_all_meshes(25, check_heads); });
const Worker kEmbed("ports_embed", [] { on_all_meshes(15, check_embed); });
const Worker kLoss("ports_loss", [] { on_all_meshes(25, check_loss); });

// 2 processes: 2 meshes; 4 processes: 3.
void expect_runs(const std::string& worker, int cases) {
  const std::uint64_t seed = rc::detail::configuration().testParams.seed % 1000000;
  for (const int size : {2, 4}) {
    const auto results = run_workers(worker, size, {{"PORTS_SEED", std::to_string(seed)}});
    for (const WorkerResult& result : results) {
      EXPECT_EQ(result.exit_code, 0);
      EXPECT_EQ(result.output, std::to_string(cases * (size == 2 ? 2 : 3)) + " runs");
    }
  }
}

TEST(DistPorts, RowsAreGatheredAndSummedOverTp) { expect_runs("ports_rows", 25); }
TEST(DistPorts, RowsMoveBetweenCuts) { expect_runs("ports_moves", 25); }
TEST(DistPorts, SumsAndColumns) { expect_runs("ports_sums", 10); }
TEST(DistPorts, HeadsAreExchangedForRows) { expect_runs("ports_heads", 25); }
TEST(DistPorts, EmbeddingsOfTheVocabularysParts) { expect_runs("ports_embed", 15); }
TEST(DistPorts, LossOverTheVocabularysParts) { expect_runs("ports_loss", 25); }

}  // namespace
}  // namespace gimbal
