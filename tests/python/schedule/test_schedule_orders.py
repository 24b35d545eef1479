"""Each rank runs the same actions in the same order as with torch.distributed.pipelining."""

from __future__ import annotations

import pytest
from gimbal import schedule
from torch_schedules import run_order, stated_order

RANKS = range(1, 9)
MICRO_BATCHES = range(1, 17)


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
def test_one_stage_per_rank_is_called_in_torchs_order(kind: str) -> None:
    for ranks in RANKS:
        for micro_batches in MICRO_BATCHES:
            ours = schedule.make(kind, ranks, micro_batches)
            assert list(ours.ranks) == run_order(kind, ranks, micro_batches), ours.text


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
def test_one_stage_per_rank_has_the_order_that_torch_states(kind: str) -> None:
    compared = 0
    for ranks in RANKS:
        for micro_batches in MICRO_BATCHES:
            stated = stated_order(kind, ranks, micro_batches)
            if stated is None:
                # Torch refuses 1F1B with fewer micro-batches than stages.
                assert kind == "1f1b" and micro_batches < ranks
                continue
            if kind == "1f1b":
                # Torch's list numbers the forwards of the last rank from 1; its run-time, which is compared above, from 0.
                stated[-1] = tuple(word if "B" in word else f"{ranks - 1}F{int(word.split('F')[1]) - 1}" for word in stated[-1])
            assert list(schedule.make(kind, ranks, micro_batches).ranks) == stated
            compared += 1
    assert compared == {"gpipe": 8 * 16, "1f1b": 8 * 16 - 28}[kind]


@pytest.mark.parametrize("stages_per_rank", [1, 2, 3])
def test_interleaved_has_torchs_order_and_torchs_shapes(stages_per_rank: int) -> None:
    compared = 0
    for ranks in RANKS:
        for micro_batches in MICRO_BATCHES:
            stated = stated_order("interleaved", ranks, micro_batches, stages_per_rank)
            if stated is None:
                with pytest.raises(schedule.UserError, match="equal rounds"):
                    schedule.make("interleaved", ranks, micro_batches, stages_per_rank)
                continue
            ours = schedule.make("interleaved", ranks, micro_batches, stages_per_rank)
            assert list(ours.ranks) == stated, ours.text
            assert not ours.check().problems
            compared += 1
    assert compared > 90


def test_zero_bubble_has_the_order_of_torchs_zb1p() -> None:
    """With one stage per rank torch's class is ZB-H1. It refuses micro-batches that do not split into rounds, which one stage per
    rank does not need; and for one rank it splits the backward, which gains nothing there: ours does not."""
    compared = 0
    for ranks in RANKS:
        for micro_batches in MICRO_BATCHES:
            stated = stated_order("zb-h1", ranks, micro_batches)
            ours = schedule.make("zb-h1", ranks, micro_batches)
            assert not ours.check().problems
            if stated is None:
                continue
            if ranks == 1:
                assert [word for word in stated[0] if "W" not in word] == [word.replace("B", "I") for word in ours.ranks[0]]
                continue
            assert list(ours.ranks) == stated, ours.text
            compared += 1
    assert compared > 80
