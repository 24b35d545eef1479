"""A torch DataLoader with workers on simulated ranks."""

from __future__ import annotations

import numpy as np
import pytest
from balance_cases import CAPS, STREAMS, mixed_sizes

from gimbal.balance import BalancedBatchSampler

torch = pytest.importorskip("torch")
SIZES = mixed_sizes(600, seed=4)


class Numbers(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return len(SIZES)

    def __getitem__(self, i: int) -> int:
        return i


def make(rank: int, world_size: int, **keywords) -> BalancedBatchSampler:
    return BalancedBatchSampler(SIZES, CAPS, names=STREAMS, rank=rank, world_size=world_size, **keywords)


def loader(sampler: BalancedBatchSampler) -> torch.utils.data.DataLoader:
    # The usual collate function: it cannot take an empty list.
    return torch.utils.data.DataLoader(Numbers(), batch_sampler=sampler, num_workers=2, prefetch_factor=4)


def test_four_ranks_then_two_in_mid_epoch_continue_the_same_order() -> None:
    four = [make(rank, 4, seed=7) for rank in range(4)]
    for epoch in range(2):
        for sampler in four:
            sampler.set_epoch(epoch)
        turns = list(zip(*[[batch.tolist() for batch in loader(sampler)] for sampler in four], strict=True))
        assert len(turns) == len(four[0]) == len(loader(four[0]))
        assert sorted(i for turn in turns for batch in turn for i in batch) == list(range(len(SIZES)))
    # Rank 0 stops after 6 batches; its workers have been given more by then.
    done = 6
    iterator = iter(loader(four[0]))
    for _ in range(done):
        next(iterator)
    assert four[0]._handed > done
    state = four[0].state_dict(done)
    del iterator
    two = [make(rank, 2) for rank in range(2)]
    for sampler in two:
        sampler.load_state_dict(state)
        sampler.set_epoch(state["epoch"])
        assert sampler.batches_per_step == 2
    rest = list(zip(*[[batch.tolist() for batch in loader(sampler)] for sampler in two], strict=True))
    # Two turns of two ranks are one step: the same packs as the one turn of four ranks.
    steps = [sorted(rest[2 * s] + rest[2 * s + 1]) for s in range(len(rest) // 2)]
    assert steps == [sorted(turn) for turn in turns[done:]]
    # The next epoch begins at its start, equal to the uninterrupted one.
    for sampler in four + two:
        sampler.set_epoch(2)
    assert sorted(i for s in two for batch in s for i in batch) == list(range(len(SIZES)))
    assert two[0].order_fingerprint == four[0].order_fingerprint


def test_an_iterator_may_be_skipped_ahead() -> None:
    """What Trainer and torchdata do to resume: they take batches and throw them away, without reading data."""
    sampler = make(1, 2)
    whole = list(sampler)
    batches = iter(sampler)
    for _ in range(4):
        next(batches)
    assert list(batches) == whole[4:]


def test_worst_rank_does_little_more_than_the_mean() -> None:
    """Balanced batches at work: padded random ones would differ by tens of percent."""
    samplers = [make(rank, 4) for rank in range(4)]
    loads = np.array([[SIZES[batch][:, 1].sum() for batch in sampler] for sampler in samplers])
    assert (loads.max(axis=0) / loads.mean(axis=0))[:-1].mean() < 1.05
