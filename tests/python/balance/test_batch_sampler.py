"""BalancedBatchSampler without torch: the same batches on all ranks, whole steps, positions."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from balance_cases import CAPS, LENGTHS, STREAMS, check_packs, examples, mixed_sizes, problems
from hypothesis import assume
from hypothesis import strategies as st

from gimbal import UserError
from gimbal.balance import BalancedBatchSampler, read_lengths, solve_patterns

SIZES = mixed_sizes(400)


def make(rank: int, world_size: int, sizes: np.ndarray = SIZES, **keywords) -> BalancedBatchSampler:
    return BalancedBatchSampler(sizes, CAPS, names=STREAMS, rank=rank, world_size=world_size, **keywords)


def batches_of(samplers: list[BalancedBatchSampler]) -> list[list[list[int]]]:
    """Per turn the batches of all ranks."""
    lists = [list(sampler) for sampler in samplers]
    assert len({len(batches) for batches in lists}) == 1
    return [list(turn) for turn in zip(*lists)]


def flat(turns: list[list[list[int]]]) -> list[int]:
    return sorted(sample for turn in turns for batch in turn for sample in batch)


@examples(1500, problems(min_samples=1), st.integers(1, 6), st.integers(1, 3), st.integers(0, 9), st.data())
def test_all_ranks_together_yield_each_sample_once_and_go_on(problem, ranks, turns, epoch, data) -> None:
    sizes, caps = problem
    options = {"packs_per_step": ranks * turns, "seed": 1}
    samplers = [BalancedBatchSampler(sizes, caps, rank=rank, world_size=ranks, **options) for rank in range(ranks)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    try:
        whole = batches_of(samplers)
    except UserError as error:
        assert "without an empty one" in str(error) and len(sizes) < ranks * turns * -(-len(sizes) // (ranks * turns))
        return
    assert len(whole) == len(samplers[0]) == samplers[0].steps * samplers[0].batches_per_step
    assert flat(whole) == list(range(len(sizes)))
    assert all(batch for turn in whole for batch in turn)
    check_packs(samplers[0].packed.offsets, samplers[0].packed.samples, sizes, caps)
    # Any position, on another number of ranks.
    step = data.draw(st.integers(0, samplers[0].steps))
    other = data.draw(st.integers(1, 6))
    state = json.loads(json.dumps(samplers[-1].state_dict(step * turns)))
    resumed = [BalancedBatchSampler(sizes, caps, rank=rank, world_size=other) for rank in range(other)]
    for sampler in resumed:
        sampler.load_state_dict(state)
        assert sampler.packs_per_step == ranks * turns
    if step == samplers[0].steps:
        assert state["epoch"] == epoch + 1 and state["packs"] == 0
        return
    assert state["epoch"] == epoch
    try:
        rest = batches_of(resumed)
    except UserError as error:
        assert f"for {other} ranks" in str(error) and (ranks * turns) % other
        return
    assert flat(rest) == flat(whole[step * turns :])
    per_step = resumed[0].batches_per_step
    for s in range(step, samplers[0].steps):
        begin = (s - step) * per_step
        assert flat(rest[begin : begin + per_step]) == flat(whole[s * turns : (s + 1) * turns])


@examples(400, problems(), st.integers(1, 6), st.integers(1, 12), st.integers(0, 9))
def test_empty_batches_where_packs_are_missing(problem, ranks, per_step, seed) -> None:
    sizes, caps = problem
    samplers = [
        BalancedBatchSampler(
            sizes, caps, rank=rank, world_size=ranks, packs_per_step=per_step, seed=seed, incomplete="empty"
        )
        for rank in range(ranks)
    ]
    whole = batches_of(samplers)
    assert flat(whole) == list(range(len(sizes)))
    packed = samplers[0].packed
    batches = sorted(batch for turn in whole for batch in turn if batch)
    assert batches == sorted(pack.tolist() for pack in packed)
    steps = samplers[0].batches_per_step
    for step in range(packed.steps):
        ran = sorted(batch for turn in whole[step * steps : (step + 1) * steps] for batch in turn if batch)
        assert ran == sorted(packed.pack(step, i).tolist() for i in range(per_step) if len(packed.pack(step, i)))


@examples(300, problems(min_samples=1), st.integers(1, 4), st.integers(2, 4))
def test_equal_epochs_have_the_same_length(problem, ranks, epochs) -> None:
    sizes, caps = problem
    try:
        samplers = [
            BalancedBatchSampler(sizes, caps, rank=rank, world_size=ranks, equal_epochs=epochs) for rank in range(ranks)
        ]
        lengths = set()
        for epoch in range(epochs):
            for sampler in samplers:
                sampler.set_epoch(epoch)
            whole = batches_of(samplers)
            lengths.add(len(whole))
            assert flat(whole) == list(range(len(sizes)))
        assert len(lengths) == 1
    except UserError as error:
        assume("without an empty one" not in str(error))
        raise


def test_a_state_in_mid_step_goes_on_where_the_ranks_divide_it() -> None:
    four = [make(rank, 4, packs_per_step=8) for rank in range(4)]
    whole = batches_of(four)
    state = four[0].state_dict(7)  # 3 steps of 2 turns, and one turn of 4 packs
    assert state["packs"] == 28
    two = [make(rank, 2) for rank in range(2)]
    for sampler in two:
        sampler.load_state_dict(state)
    assert flat(batches_of(two)) == flat(whole[7:])
    three = make(0, 3)
    with pytest.raises(UserError, match="4 packs into a step of 8, where 3 ranks cannot begin"):
        three.load_state_dict(state)
    odd = make(0, 3, packs_per_step=4)
    list(odd)
    odd.state_dict(2)
    with pytest.raises(UserError, match="save the state after whole steps"):
        odd.state_dict(3)


def test_the_position_is_kept_until_the_epoch_is_over_or_changed() -> None:
    sampler = make(0, 2)
    whole = list(sampler)
    state = sampler.state_dict(5)
    resumed = make(0, 2)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    resumed.set_epoch(state["epoch"])
    assert next(iter(resumed)) == whole[5]
    assert list(resumed) == whole[5:], "a look at the first batch loses nothing"
    assert resumed.state_dict()["epoch"] == 1
    assert list(resumed) == whole, "the epoch is over, so it begins anew"
    resumed.load_state_dict(state)
    resumed.set_epoch(1)
    resumed.set_epoch(0)
    assert list(resumed) == whole


def test_what_was_handed_out_counts_when_nothing_else_is_said() -> None:
    sampler = make(1, 2)
    batches = iter(sampler)
    assert sampler.state_dict()["packs"] == 0
    next(batches), next(batches), next(batches)
    assert sampler.state_dict()["packs"] == 6 and sampler.state_dict(1)["packs"] == 2
    with pytest.raises(UserError, match="3 batches were handed out"):
        sampler.state_dict(4)


def test_a_state_of_something_else_is_an_error() -> None:
    sampler = make(0, 2, seed=3)
    list(sampler)
    state = sampler.state_dict(4)
    assert len(json.dumps(state)) < 300
    for other in (
        make(0, 2, sizes=SIZES[:-1]),
        make(0, 2, oversize="reject"),
        make(0, 2, costs={"vision": 3, "tokens": 1}),
        make(0, 2, incomplete="empty"),
        make(0, 2, sources=np.zeros(len(SIZES), int)),
    ):
        with pytest.raises(UserError, match="other sizes, caps or options"):
            other.load_state_dict(state)
    with pytest.raises(UserError, match="not a state"):
        sampler.load_state_dict({"step": 3})
    with pytest.raises(UserError, match="not a state"):
        sampler.load_state_dict(state | {"version": 2})
    moved = make(0, 2, seed=9)
    with pytest.raises(UserError, match="another order"):
        moved.load_state_dict(state | {"order": "0123"})
    assert moved.seed == 9 and moved.state_dict()["packs"] == 0, "nothing has changed"
    moved.load_state_dict(state)
    assert moved.seed == 3 and list(moved) == list(sampler)[4:]


def test_bad_options_are_errors() -> None:
    for keywords, message in (
        ({"packs_per_step": 3, "packs_per_slot": 2}, "does not divide packs_per_step 3"),
        ({"incomplete": "drop"}, "use one of split, empty"),
        ({"method": "random"}, "use one of gimbal, isf, bfd"),
    ):
        with pytest.raises(UserError, match=message):
            make(0, 1, **keywords)
    with pytest.raises(UserError, match="rank is 2"):
        make(2, 2)
    with pytest.raises(UserError, match="world_size is 0"):
        make(0, 0)
    alone = np.full((5, 2), 16, np.uint32)
    with pytest.raises(UserError, match='incomplete="empty"'):
        len(make(0, 2, sizes=alone))
    assert len(make(0, 2, sizes=alone, incomplete="empty")) == 3
    with pytest.raises(UserError, match="for 3 ranks"):
        iter(make(0, 3, sizes=np.full((8, 2), 16, np.uint32), packs_per_step=4))


def test_ranks_agree_and_the_sampler_can_be_pickled() -> None:
    samplers = [make(rank, 3) for rank in range(3)]
    assert len({s.order_fingerprint for s in samplers}) == 1 and len({s.fingerprint for s in samplers}) == 1
    copy = pickle.loads(pickle.dumps(samplers[2]))
    assert list(copy) == list(samplers[2])
    copy.set_epoch(1)
    assert copy.order_fingerprint != samplers[2].order_fingerprint


def test_patterns_may_come_from_a_file(tmp_path) -> None:
    sizes = read_lengths(LENGTHS).sizes
    solve_patterns(sizes, CAPS, names=STREAMS).save(tmp_path / "patterns")
    assert list(make(0, 2, sizes, patterns=tmp_path / "patterns")) == list(make(0, 2, sizes))


def test_the_order_is_the_same_for_every_number_of_ranks() -> None:
    orders = {make(0, ranks, packs_per_step=12).order_fingerprint for ranks in (1, 2, 3, 4, 5, 12, 16)}
    assert len(orders) == 1


def test_no_samples_are_no_batches() -> None:
    sampler = make(0, 2, sizes=SIZES[:0])
    assert len(sampler) == 0 and list(sampler) == []
    state = sampler.state_dict()
    other = make(1, 3, sizes=SIZES[:0])
    other.load_state_dict(state)
    assert list(other) == [] and other.epoch == 0


def test_the_last_packs_are_split_and_no_others() -> None:
    sampler = make(0, 8, sizes=mixed_sizes(3000))
    plain = make(0, 8, sizes=mixed_sizes(3000), incomplete="empty")
    assert len(plain.packed) % 8, "this data set fills its last step; take another"
    kept = len(plain.packed) // 8 * 8
    offset = int(plain.packed.offsets[kept])
    assert np.array_equal(sampler.packed.offsets[: kept + 1], plain.packed.offsets[: kept + 1])
    assert np.array_equal(sampler.packed.samples[:offset], plain.packed.samples[:offset])
    assert len(sampler.packed) == kept + 8


def test_the_report_is_of_the_split_packs() -> None:
    sizes = mixed_sizes(3000)
    split = make(0, 8, sizes=sizes).packed
    whole = make(0, 8, sizes=sizes, incomplete="empty").packed
    assert len(split) > len(whole) == whole.report["packs"], "this data set fills its last step; take another"
    report = split.report
    assert report["packs"] == len(split) == 8 * report["steps"] and report["slots"] == report["steps"]
    for k, (name, cap) in enumerate(CAPS.items()):
        assert report["fill"][name] == pytest.approx(sizes[:, k].sum() / (len(split) * cap))
        loads = np.array([[sizes[pack][:, k].sum() for pack in split]]).reshape(-1, 8)
        assert report["waste"][name] == pytest.approx((1 - loads.mean(axis=1) / loads.max(axis=1)).mean())
    for key in ("samples_in", "samples_packed", "samples_rejected", "packs_lower_bound", "source_counts"):
        assert report[key] == whole.report[key]
    assert split.measure(4)["slots"] == 2 * report["slots"]
    assert pickle.loads(pickle.dumps(split)).report == report
    assert not split.samples.flags.writeable and not split.offsets.flags.writeable


def test_slots_are_steps_by_default() -> None:
    for ranks in (2, 3, 4):
        sampler = make(0, ranks, packs_per_step=12)
        assert sampler.packs_per_slot == 12
    assert make(0, 2, packs_per_step=12, packs_per_slot=2).packs_per_slot == 2
