// The sharded store on CUDA: alone, and as one of two ranks of which the other is like it.
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>

#include "gpu/cuda_device.h"
#include "unit/parallel/counting_comm.h"
#include "unit/parallel/toy_model.h"

namespace gimbal {
namespace {

using namespace gpu_tests;  // NOLINT: a test's own helpers

constexpr std::size_t kTextBlock = 3;  // of the toy model: one weight

class CudaComm : public toy::CountingComm {
 public:
  using CountingComm::CountingComm;
  at::Device device() const override { return kCuda; }
};

class GpuStore : public Gpu {
 protected:
  std::unique_ptr<ParameterStore> make(StorePolicy policy, at::ScalarType compute, Comm* shard) {
    StoreSetup setup;
    setup.shard = shard;
    setup.policy = policy;
    setup.compute = compute;
    setup.device = kCuda;
    setup.group_of = toy::group_of;
    auto store = make_sharded_store(model_.blocks, setup);
    toy::fill_values(*store);
    return store;
  }

  const at::Tensor& weight() const { return model_.blocks[kTextBlock]->parameters()[0]->value; }

  static void finish_step(ParameterStore& store) {
    for (std::size_t i = 6; i-- > 0;) store.finish_micro_batch(i, true);
    store.finish_reduce();
  }

  Model model_ = toy::make_model();
};

TEST_F(GpuStore, OneRankHasValuesAndGradientsOnTheDevice) {
  for (const StorePolicy policy : {StorePolicy::kReshard, StorePolicy::kKeepWeights}) {
    for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
      const auto comm = make_single_comm(kCuda);
      const auto store = make(policy, compute, comm.get());
      store->begin_step();
      store->open(kTextBlock, true);
      ASSERT_TRUE(weight().is_cuda());
      EXPECT_EQ(weight().scalar_type(), compute);
      const FlatShard& shard = store->shards()[4];
      ASSERT_EQ(shard.block, "text.0");
      EXPECT_TRUE(
          at::equal(weight().detach(), toy::slice_of(shard.values, shard.slices[0]).to(compute)));
      const at::Tensor x = toy::random_floats({4, toy::kWidth}, "x", 1).to(compute).to(kCuda);
      at::mm(x, weight()).sum().backward();
      store->close(kTextBlock);
      finish_step(*store);
      const at::Tensor expected =
          x.to(at::kFloat).sum(0).unsqueeze(1).expand({toy::kWidth, toy::kWidth});
      // A sum of 4 numbers, in bfloat16 rounded once more.
      expect_near(toy::slice_of(store->shards()[4].gradients, store->shards()[4].slices[0]),
                  expected, 4, eps_of(compute), "gradient");
    }
  }
}

TEST_F(GpuStore, ReshardFreesAndRefillsTheStorageThatAutogradHasSaved) {
  CudaComm shard(2, 0);
  const auto store = make(StorePolicy::kReshard, at::kFloat, &shard);
  store->begin_step();
  store->open(kTextBlock, false);
  const at::Tensor leaf = weight();
  const at::Tensor x = toy::random_floats({4, toy::kWidth}, "x", 1).to(kCuda).requires_grad_(true);
  const at::Tensor expected = leaf.detach().sum(1).expand({4, -1}).clone();
  const std::size_t bytes = leaf.storage().nbytes();
  EXPECT_GT(bytes, 0u);
  const at::Tensor y = at::mm(x, leaf).sum();
  store->close(kTextBlock);
  EXPECT_EQ(leaf.storage().nbytes(), 0u);
  // Others may get the memory meanwhile.
  const at::Tensor other = toy::random_floats({64}, "other", 2).to(kCuda);
  store->open(kTextBlock, true);
  EXPECT_TRUE(weight().is_same(leaf));
  EXPECT_EQ(leaf.storage().nbytes(), bytes);
  y.backward();
  store->close(kTextBlock);
  expect_near(x.grad(), expected, 8, eps_of(at::kFloat), "gradient of x");
  finish_step(*store);
  // Both ranks have the same gradients: twice this rank's. Rank 0 has the first values.
  const FlatShard& flat = store->shards()[4];
  const at::Tensor gradient = x.detach().sum(0).unsqueeze(1).expand({toy::kWidth, toy::kWidth}) * 2;
  const auto& slice = flat.slices[0];
  expect_near(flat.gradients.narrow(0, slice.offset, slice.numel),
              gradient.flatten().narrow(0, slice.begin, slice.numel), 8, eps_of(at::kFloat),
              "gradient of the weight");
}

}  // namespace
}  // namespace gimbal
