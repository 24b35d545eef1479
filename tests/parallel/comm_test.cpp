#include "gimbal/parallel/comm.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "gimbal/base/error.h"
#include "workers.h"

namespace gimbal {
namespace {

using testing::HasSubstr;
using testing_workers::run_workers;
using testing_workers::Worker;
using testing_workers::WorkerResult;

std::unique_ptr<CommWorld> make_world() {
  return make_comm_world(read_launch_info(), at::kCPU, std::chrono::seconds(60));
}

/// What rank `rank` has: fractions for floating dtypes, small numbers for the others.
at::Tensor values_of(int rank, const std::vector<std::int64_t>& shape, at::ScalarType dtype) {
  std::int64_t numel = 1;
  for (const std::int64_t size : shape) numel *= size;
  const at::Tensor wave = at::sin(at::arange(numel, at::kDouble) * (1.7 + rank) + rank);
  const at::Tensor scaled = at::isFloatingType(dtype) ? wave : (wave + 1) * 20;
  return scaled.to(dtype).view(shape);
}

void expect_equal(const at::Tensor& result, const at::Tensor& wanted, const std::string& what) {
  GIMBAL_CHECK(at::equal(result, wanted), "", what, " of ", c10::toString(result.scalar_type()),
               ": ", result.sum().item<double>(), " vs ", wanted.sum().item<double>());
}

/// In the order of the ranks; short floating dtypes in float32.
at::Tensor sum_in_rank_order(const std::vector<at::Tensor>& parts) {
  const at::ScalarType dtype = parts[0].scalar_type();
  const bool is_short = dtype == at::kBFloat16 || dtype == at::kHalf;
  at::Tensor sum = is_short ? parts[0].to(at::kFloat) : parts[0].clone();
  for (std::size_t i = 1; i < parts.size(); ++i) sum.add_(parts[i]);
  return sum.to(dtype);
}

constexpr at::ScalarType kDtypes[] = {at::kFloat, at::kDouble, at::kBFloat16,
                                      at::kHalf,  at::kLong,   at::kByte};

void check_sums(Comm& comm, at::ScalarType dtype) {
  std::vector<at::Tensor> all;
  for (int i = 0; i < comm.size(); ++i) all.push_back(values_of(i, {5 * comm.size()}, dtype));
  const at::Tensor own = all[static_cast<std::size_t>(comm.rank())];
  const at::Tensor wanted = sum_in_rank_order(all);

  at::Tensor reduced = own.clone();
  comm.all_reduce_sum(reduced, "reduced")->wait();
  // Each of size() - 1 additions of numbers up to size() rounds once, in this order or another.
  const double eps = at::isFloatingType(dtype) ? std::pow(2.0, dtype == at::kDouble     ? -53
                                                               : dtype == at::kFloat    ? -24
                                                               : dtype == at::kBFloat16 ? -8
                                                                                        : -11)
                                               : 0;
  const double off = (reduced.to(at::kDouble) - wanted.to(at::kDouble)).abs().max().item<double>();
  GIMBAL_CHECK(off <= comm.size() * comm.size() * eps, "all_reduce_sum ", off);
  const at::Tensor everywhere = comm.all_gather(reduced, "reduced everywhere");
  for (int i = 0; i < comm.size(); ++i)
    expect_equal(everywhere[i], reduced, "the same sum on all ranks");

  const at::Tensor part = wanted.view({comm.size(), 5})[comm.rank()];
  const at::Tensor out = at::empty({5}, own.options());
  comm.reduce_scatter_sum(out, own.clone(), "scattered")->wait();
  expect_equal(out, part, "reduce_scatter_sum");
  const at::Tensor in = own.clone();
  const at::Tensor inside = in.view({comm.size(), 5})[comm.rank()];
  comm.reduce_scatter_sum(inside, in, "scattered in place")->wait();
  expect_equal(inside, part, "reduce_scatter_sum in place");
}

void check_copies(Comm& comm, at::ScalarType dtype) {
  std::vector<at::Tensor> all;
  for (int i = 0; i < comm.size(); ++i) all.push_back(values_of(i, {3, 2}, dtype));
  const at::Tensor own = all[static_cast<std::size_t>(comm.rank())];
  expect_equal(comm.all_gather(own, "gathered"), at::stack(all), "all_gather");

  const at::Tensor flat = at::cat(all).view({-1});
  const at::Tensor out = at::zeros_like(flat);
  comm.all_gather_into(out, own, "gathered into")->wait();
  expect_equal(out, flat, "all_gather_into");
  const at::Tensor whole = at::zeros_like(flat);
  const at::Tensor inside = whole.narrow(0, 6 * comm.rank(), 6);
  inside.copy_(own.view({-1}));
  comm.all_gather_into(whole, inside, "gathered in place")->wait();
  expect_equal(whole, flat, "all_gather_into in place");

  for (int root = 0; root < comm.size(); ++root) {
    at::Tensor sent = own.clone();
    comm.broadcast(sent, root, "sent")->wait();
    expect_equal(sent, all[static_cast<std::size_t>(root)], "broadcast");
  }
}

const Worker kDtypesWorker("comm dtypes", [] {
  const auto world = make_world();
  for (const at::ScalarType dtype : kDtypes) {
    check_sums(world->world(), dtype);
    check_copies(world->world(), dtype);
  }
  check_copies(world->world(), at::kBool);
  // Parameters are leaves that want gradients; views of them are sent and filled all the same.
  at::Tensor leaf = at::full({4}, 1.0).requires_grad_(true);
  world->world().all_reduce_sum(leaf.detach(), "leaf")->wait();
  expect_equal(leaf.detach(), at::full({4}, static_cast<double>(world->world().size())), "leaf");
  at::Tensor grown = at::zeros({4L * world->world().size()}).requires_grad_(true);
  world->world().all_gather_into(grown, leaf, "leaves")->wait();
  expect_equal(grown.detach(), leaf.detach().repeat({world->world().size()}), "leaves");
  std::cout << "ok";
});

/// Rows that rank `from` sends to rank `to`: uneven, some zero, all of some ranks' zero.
std::int64_t rows_between(int from, int to, int round) {
  if (round == 0) return 0;
  if (round == 1) return from == 1 || to == 1 ? 0 : 2;
  return (from * 5 + to * 3 + round) % 4;
}

void check_all_to_all_round(Comm& comm, int round, at::ScalarType dtype) {
  const int size = comm.size();
  std::vector<std::int64_t> in_rows, out_rows;
  std::vector<at::Tensor> wanted;
  std::int64_t num_in = 0;
  for (int other = 0; other < size; ++other) {
    in_rows.push_back(rows_between(comm.rank(), other, round));
    out_rows.push_back(rows_between(other, comm.rank(), round));
    num_in += in_rows.back();
  }
  for (int from = 0; from < size; ++from) {
    std::int64_t begin = 0, total = 0;
    for (int to = 0; to < size; ++to) {
      if (to < comm.rank()) begin += rows_between(from, to, round);
      total += rows_between(from, to, round);
    }
    wanted.push_back(values_of(from, {total, 2, 3}, dtype)
                         .narrow(0, begin, out_rows[static_cast<std::size_t>(from)]));
  }
  const at::Tensor expected = at::cat(wanted);
  const at::Tensor out = at::zeros_like(expected);
  comm.all_to_all(out, values_of(comm.rank(), {num_in, 2, 3}, dtype), out_rows, in_rows, "rows")
      ->wait();
  expect_equal(out, expected, concat("all_to_all, round ", round));
}

const Worker kUneven("comm uneven rows", [] {
  const auto world = make_world();
  for (const at::ScalarType dtype : kDtypes) {
    for (int round = 0; round < 6; ++round) check_all_to_all_round(world->world(), round, dtype);
  }
  std::cout << "ok";
});

/// Some ranks, or all, have no rows.
void check_gather_rows_round(Comm& comm, int round, at::ScalarType dtype) {
  std::vector<std::int64_t> rows;
  std::vector<at::Tensor> all;
  for (int rank = 0; rank < comm.size(); ++rank) {
    rows.push_back(rows_between(rank, 0, round));
    all.push_back(values_of(rank, {rows.back(), 2, 3}, dtype));
  }
  const auto own = static_cast<std::size_t>(comm.rank());
  const at::Tensor expected = at::cat(all);
  const at::Tensor out = at::zeros_like(expected), by_default = at::zeros_like(expected);
  comm.all_gather_rows(out, all[own], rows, "gathered rows")->wait();
  expect_equal(out, expected, concat("all_gather_rows, round ", round));
  comm.Comm::all_gather_rows(by_default, all[own], rows, "gathered rows by default")->wait();
  expect_equal(by_default, expected, concat("the default all_gather_rows, round ", round));
  const at::Tensor whole = at::zeros_like(expected);
  const at::Tensor inside = whole.split_with_sizes(rows)[own];
  inside.copy_(all[own]);
  comm.all_gather_rows(whole, inside, rows, "gathered rows in place")->wait();
  expect_equal(whole, expected, concat("all_gather_rows in place, round ", round));
}

const Worker kGatherRows("comm gathered rows", [] {
  const auto world = make_world();
  for (const at::ScalarType dtype : kDtypes) {
    for (int round = 0; round < 6; ++round) check_gather_rows_round(world->world(), round, dtype);
  }
  std::cout << "ok";
});

const Worker kEmpty("comm without values", [] {
  const auto world = make_world();
  Comm& comm = world->world();
  const at::Tensor none = at::empty({0, 4});
  comm.all_reduce_sum(none, "none")->wait();
  comm.broadcast(none, 1, "none")->wait();
  expect_equal(comm.all_gather(none, "none"), at::empty({comm.size(), 0, 4}), "all_gather");
  comm.all_gather_into(none, none, "none")->wait();
  comm.reduce_scatter_sum(none, none, "none")->wait();
  // Messages without values are left out; those before and after them still find each other.
  const int other = comm.rank() ^ 1;
  at::Tensor received = at::zeros({2});
  const auto first = comm.send(at::full({2}, comm.rank(), at::kFloat), other, "first");
  const auto second = comm.send(none, other, "second");
  const auto third = comm.send(at::full({3}, 7.0), other, "third");
  comm.receive(received, other, "first")->wait();
  at::Tensor nothing = at::empty({0, 4});
  comm.receive(nothing, other, "second")->wait();
  at::Tensor last = at::zeros({3});
  comm.receive(last, other, "third")->wait();
  first->wait();
  second->wait();
  third->wait();
  expect_equal(received, at::full({2}, other, at::kFloat), "first");
  expect_equal(last, at::full({3}, 7.0), "third");
  std::cout << "ok";
});

const Worker kOutstanding("comm many outstanding", [] {
  const auto world = make_world();
  Comm& comm = world->world();
  const int next = (comm.rank() + 1) % comm.size();
  const int previous = (comm.rank() + comm.size() - 1) % comm.size();
  constexpr int kNumRounds = 40;
  std::vector<std::unique_ptr<CommWork>> works;
  std::vector<at::Tensor> reduced, scattered, gathered, received;
  for (int i = 0; i < kNumRounds; ++i) {
    const std::int64_t numel = 1 + 997 * i;
    reduced.push_back(at::full({numel}, i + 1.0));
    works.push_back(comm.all_reduce_sum(reduced.back(), "reduced"));
    received.push_back(at::zeros({numel}));
    works.push_back(comm.receive(received.back(), previous, "message"));
    scattered.push_back(at::zeros({numel}));
    works.push_back(comm.reduce_scatter_sum(scattered.back(),
                                            at::full({numel * comm.size()}, i + 2.0), "scattered"));
    works.push_back(comm.send(at::full({numel}, 100.0 * comm.rank() + i), next, "message"));
    gathered.push_back(at::zeros({numel * comm.size()}));
    works.push_back(comm.all_gather_into(gathered.back(), at::full({numel}, static_cast<double>(i)),
                                         "gathered"));
  }
  // In the opposite order: nothing depends on who is waited for first.
  for (auto work = works.rbegin(); work != works.rend(); ++work) (*work)->wait();
  for (int i = 0; i < kNumRounds; ++i) {
    const auto k = static_cast<std::size_t>(i);
    const auto full = [](const at::Tensor& like, double value) {
      return at::full(like.sizes(), value);
    };
    expect_equal(reduced[k], full(reduced[k], comm.size() * (i + 1.0)), "all_reduce_sum");
    expect_equal(scattered[k], full(scattered[k], comm.size() * (i + 2.0)), "reduce_scatter_sum");
    expect_equal(gathered[k], full(gathered[k], i), "all_gather_into");
    expect_equal(received[k], full(received[k], 100.0 * previous + i), "receive");
  }
  std::cout << "ok";
});

const Worker kGroups("comm groups", [] {
  const auto world = make_world();
  const int rank = world->world().rank();
  // Pairs, the same pairs once more, a group in another order, and the rank alone.
  const std::vector<int> pair = rank < 2 ? std::vector<int>{0, 1} : std::vector<int>{2, 3};
  const auto pairs = world->make_group("pairs", pair);
  const auto twins = world->make_group("twins", pair);
  const auto turned = world->make_group("turned", {3, 1, 0, 2});
  const auto alone = world->make_group("alone", {rank});
  GIMBAL_CHECK_EQ(pairs->rank(), rank % 2);
  GIMBAL_CHECK_EQ(pairs->size(), 2);
  GIMBAL_CHECK_EQ(alone->size(), 1);
  at::Tensor a = at::full({3}, rank + 1.0);
  at::Tensor b = at::full({1000}, 10.0 * rank);
  const auto first = pairs->all_reduce_sum(a, "a");
  const auto second = twins->all_reduce_sum(b, "b");
  const at::Tensor order = turned->all_gather(at::full({1}, rank, at::kLong), "order");
  alone->barrier("alone");
  second->wait();
  first->wait();
  expect_equal(a, at::full({3}, rank < 2 ? 3.0 : 7.0), "pairs");
  expect_equal(b, at::full({1000}, rank < 2 ? 10.0 : 50.0), "twins");
  GIMBAL_CHECK_EQ(turned->rank(), (std::vector<int>{2, 1, 3, 0}[static_cast<std::size_t>(rank)]));
  for (int i = 0; i < 4; ++i)
    GIMBAL_CHECK_EQ(order[i].item<std::int64_t>(),
                    (std::vector<std::int64_t>{3, 1, 0, 2}[static_cast<std::size_t>(i)]));
  std::cout << "ok";
});

void expect_ok(const std::vector<WorkerResult>& results) {
  for (const WorkerResult& result : results) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.output, "ok");
  }
}

class DistCommSizes : public testing::TestWithParam<std::tuple<std::string, int, std::string>> {};

TEST_P(DistCommSizes, IsRight) {
  const auto [name, size, transport] = GetParam();
  expect_ok(run_workers(name, size, {{"GIMBAL_TRANSPORT", transport}}));
}

INSTANTIATE_TEST_SUITE_P(
    All, DistCommSizes,
    testing::Combine(testing::Values("comm dtypes", "comm uneven rows", "comm gathered rows",
                                     "comm without values", "comm many outstanding"),
                     testing::Values(2, 4), testing::Values("auto", "tcp")));

/// Sums within pairs of four ranks.
const Worker kTransport("transports", [] {
  const auto world = make_world();
  const int rank = world->world().rank();
  const auto pair = world->make_group(
      "pairs", rank == 1 || rank == 2 ? std::vector<int>{1, 2} : std::vector<int>{0, 3});
  std::cout << world->world().transport() << ", " << pair->transport();
  at::Tensor sum = at::full({10}, 1.0 + rank);
  pair->all_reduce_sum(sum, "sum")->wait();
  expect_equal(sum, at::full({10}, 5.0), "sum");
});

TEST(DistComm, SharesMemoryWhereAllRanksWantTo) {
  for (const WorkerResult& result : run_workers("transports", 4)) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.output, "shared memory, shared memory");
  }
  for (const WorkerResult& result : run_workers("transports", 4, {{"GIMBAL_TRANSPORT", "tcp"}})) {
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.output, "gloo, gloo");
  }
}

const Worker kMixed("mixed transports", [] {
  if (std::string(std::getenv("RANK")) == "0") setenv("GIMBAL_TRANSPORT", "tcp", 1);
  testing_workers::registry().at("transports")();
});

TEST(DistComm, RanksWithoutSharedMemoryAreReachedAllTheSame) {
  const auto results = run_workers("mixed transports", 4);
  for (std::size_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0);
    EXPECT_EQ(results[rank].output, rank == 1 || rank == 2 ? "gloo, shared memory" : "gloo, gloo");
  }
}

// Rank 0, which talks to all by Gloo, waits for them first; the others wait for their pair first.
const Worker kCrossed("crossed waits", [] {
  if (std::string(std::getenv("RANK")) == "0") setenv("GIMBAL_TRANSPORT", "tcp", 1);
  const auto world = make_world();
  const int rank = world->world().rank();
  if (rank == 0) {
    at::Tensor all = at::ones({10});
    world->world().all_reduce_sum(all, "all")->wait();
    std::cout << "ok";
    return;
  }
  const auto pair = world->make_group("pair", {1, 2});
  GIMBAL_CHECK_EQ(pair->transport(), "shared memory");
  at::Tensor sum = at::ones({2'000'000}), all = at::ones({10});
  const auto first = pair->all_reduce_sum(sum, "sum");
  if (rank == 2) first->wait();
  const auto second = world->world().all_reduce_sum(all, "all");
  second->wait();
  first->wait();
  expect_equal(sum, at::full({2'000'000}, 2.0), "sum");
  expect_equal(all, at::full({10}, 3.0), "all");
  std::cout << "ok";
});

TEST(DistComm, SharedMemoryGoesOnWhileARankWaitsForTheNetwork) {
  expect_ok(run_workers("crossed waits", 3));
}

/// Sums of more values than a message's ring holds, and sums of few.
const Worker kLargeSums("large sums", [] {
  const auto world = make_world();
  Comm& comm = world->world();
  for (const std::int64_t numel : {1L, 3L, 1024L, 2049L, 4099L, 1'500'001L}) {
    for (const at::ScalarType dtype : kDtypes) {
      std::vector<at::Tensor> all;
      for (int i = 0; i < comm.size(); ++i) all.push_back(values_of(i, {numel}, dtype));
      at::Tensor sum = all[static_cast<std::size_t>(comm.rank())].clone();
      comm.all_reduce_sum(sum, "sum")->wait();
      expect_equal(sum, sum_in_rank_order(all), concat("sum of ", numel));
    }
  }
  std::cout << "ok";
});

TEST(DistComm, SumsInTheOrderOfTheRanks) {
  for (const int size : {2, 3, 4}) expect_ok(run_workers("large sums", size));
}

TEST(DistComm, GroupsDoNotDisturbEachOther) { expect_ok(run_workers("comm groups", 4)); }

const Worker kBytes("bytes", [] {
  const auto world = make_world();
  const std::vector<std::string> texts{"", std::string("a\0b", 3), "longer text"};
  for (const std::string& text : all_gather_bytes(
           world->world(), texts[static_cast<std::size_t>(world->world().rank())], "texts")) {
    std::cout << text.size() << ":" << text << ";";
  }
  std::cout << all_gather_bytes(world->world(), "", "nothing").size();
});

TEST(DistComm, GathersBytesOfUnevenLengths) {
  for (const WorkerResult& result : run_workers("bytes", 3)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    EXPECT_EQ(result.output, std::string("0:;3:a\0b;11:longer text;3", 25));
  }
}

/// Prints the message of the InternalError that `use` has to throw.
template <typename Use>
void print_refusal(const Use& use) {
  try {
    use();
    std::cout << "accepted\n";
  } catch (const InternalError& e) {
    std::cout << e.what() << "\n";
  }
}

const Worker kWrongUse("wrong use", [] {
  const auto world = make_world();
  Comm& comm = world->world();
  const at::Tensor four = at::zeros({4});
  print_refusal([&] { comm.all_reduce_sum(at::Tensor(), "A"); });
  print_refusal([&] { comm.all_reduce_sum(at::zeros({4, 2}).t(), "B"); });
  print_refusal([&] { comm.all_reduce_sum(at::zeros({2}, at::kBool), "C"); });
  print_refusal([&] { comm.broadcast(four, 2, "D"); });
  print_refusal([&] { comm.all_gather_into(at::zeros({7}), four, "E"); });
  print_refusal([&] { comm.all_gather_into(at::zeros({8}, at::kDouble), four, "F"); });
  const at::Tensor eight = at::zeros({8});
  print_refusal([&] { comm.all_gather_into(eight, eight.narrow(0, 2, 4), "G"); });
  print_refusal([&] { comm.reduce_scatter_sum(four, four, "H"); });
  print_refusal([&] { comm.all_to_all(eight, at::zeros({8}), {4, 4}, {8}, "I"); });
  print_refusal([&] { comm.all_to_all(eight, at::zeros({8}), {4, 3}, {4, 4}, "J"); });
  print_refusal([&] { comm.all_to_all(eight, at::zeros({8}), {9, -1}, {9, -1}, "K"); });
  print_refusal([&] { comm.all_to_all(eight, eight, {4, 4}, {4, 4}, "L"); });
  print_refusal([&] {
    comm.all_to_all(at::zeros({8, 2}), at::zeros({8, 3}), {4, 4}, {4, 4}, "M");
  });
  print_refusal([&] { comm.all_gather_rows(eight, four, {4, 3}, "U"); });
  print_refusal([&] { comm.all_gather_rows(eight, at::zeros({3}), {4, 4}, "V"); });
  print_refusal([&] { comm.all_gather_rows(eight, eight.narrow(0, 2, 4), {4, 4}, "W"); });
  print_refusal([&] { comm.send(four, comm.rank(), "N"); });
  print_refusal([&] { comm.receive(at::zeros({4}), 2, "O"); });
  std::thread([&] { print_refusal([&] { comm.barrier("P"); }); }).join();
  print_refusal([&] { world->make_group("Q", {1 - comm.rank()}); });
  print_refusal([&] { world->make_group("R", {comm.rank(), comm.rank()}); });
  print_refusal([&] { world->make_group("S", {comm.rank(), 2}); });
  world->make_group("T", {comm.rank()});
  print_refusal([&] { world->make_group("T", {comm.rank()}); });
  comm.barrier("all is well after that");
});

TEST(DistComm, WrongUseIsRefusedBeforeAnythingIsSent) {
  const std::vector<std::string> wanted{
      "'A' is undefined",     "'B' is not contiguous",
      "'C' cannot be summed", "root 2 of 'D'",
      "values of 'E'",        "dtypes of 'F'",
      "'G' overlaps",         "values of 'H'",
      "ranks of 'I'",         "rows of 'J'",
      "negative rows of 'K'", "'L' is sent and received in the same memory",
      "row shapes of 'M'",    "'N' between rank",
      "'O' between rank",     "'P' in group world of ranks 0, 1 is called by a second thread",
      "is not in group Q",    "group R has a rank twice",
      "rank 2 of group S",    "group T is made twice",
      "rows of 'U'",          "own rows of 'V'",
      "'W' overlaps"};
  for (const WorkerResult& result : run_workers("wrong use", 2)) {
    EXPECT_EQ(result.exit_code, 0) << result.output;
    for (const std::string& message : wanted) EXPECT_THAT(result.output, HasSubstr(message));
    EXPECT_THAT(result.output, testing::Not(HasSubstr("accepted")));
  }
}

}  // namespace
}  // namespace gimbal
