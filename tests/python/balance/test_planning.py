"""choose_cap, plan_rebalance, lower_bound and StreamPacker from Python."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from balance_cases import CAPS, LENGTHS, STREAMS, mixed_sizes
from hypothesis import given, settings
from hypothesis import strategies as st

from gimbal import UserError
from gimbal.balance import StreamPacker, choose_cap, lower_bound, model_costs, pack, plan_rebalance, read_costs, read_lengths


def test_chooses_a_cap_with_its_curve() -> None:
    table = read_lengths(LENGTHS)
    choice = choose_cap(table, "vision", {"tokens": 5376}, costs={"vision": 300, "tokens": 1})
    assert choice.caps == {"vision": choice.cap, "tokens": 5376}
    best = min(point.cost_per_sample for point in choice.curve)
    chosen = next(point for point in choice.curve if point.caps["vision"] == choice.cap)
    assert chosen.cost_per_sample <= best * 1.0011
    assert [p.caps["vision"] for p in choice.curve] == sorted(p.caps["vision"] for p in choice.curve)
    assert choice.closed_form > 0 and choice.pack_overhead > 0
    budget = choose_cap(
        table, 0, [None, None], memory_bytes=2**20, bytes_per_row={"vision": 20000, "tokens": 100}, pack_overhead=50.0
    )
    assert budget.cap * 20000 + budget.caps["tokens"] * 100 <= 2**20 and budget.pack_overhead == 50
    for words, keywords, message in (
        (("audio", {"vision": None, "tokens": 5376}), {}, "no stream is called 'audio'"),
        ((0, {"vision": None, "tokens": None}), {}, "cap|budget"),
        ((0, {"vision": None, "tokens": 9999}), {"memory_bytes": 5}, "give the bytes"),
        ((0, {"vision": None, "tokens": 9999}), {"ranks": 0}, "ranks is 0"),
    ):
        with pytest.raises(UserError, match=message):
            choose_cap(table, *words, **keywords)


def test_costs_from_a_file_and_a_model(tmp_path) -> None:
    (tmp_path / "costs.json").write_text('{"streams": {"tokens": {"per_row": 2, "per_pair": 0.5}, "vision": {"per_row": 600}}}')
    assert read_costs(tmp_path / "costs.json", STREAMS) == {"vision": (600, 0), "tokens": (2, 0.5)}
    with pytest.raises(UserError, match="audio"):
        read_costs(tmp_path / "costs.json", ["audio"])
    config = (
        '{"model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, '
        '"num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100}'
    )
    (tmp_path / "config.json").write_text(config)
    # Per layer: query and output 2 * 64 * 64, key and value 2 * 64 * 32, gate, up and down 3 * 64 * 128.
    per_row = 2 * 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert model_costs(tmp_path, ["tokens"], head_share=0) == {"tokens": (per_row, 2 * 2 * 64)}
    assert model_costs(tmp_path, ["text"])["text"][0] == per_row + 2 * 64 * 100
    with pytest.raises(UserError, match="audio"):
        model_costs(tmp_path, ["audio"])


def test_plans_an_exchange() -> None:
    rng = np.random.default_rng(0)
    owners = np.sort(rng.integers(0, 4, 60))
    costs = rng.integers(1, 100, 60).astype(float)
    plan = plan_rebalance(owners, costs, [1000] * 60, np.full(60, 300), 4)
    assert np.allclose(np.bincount(plan.encoder, costs, 4), plan.rank_cost)
    assert plan.max_cost_lower_bound <= plan.max_cost == plan.rank_cost.max() <= plan.max_cost_before
    moved = plan.encoder != owners
    assert plan.moved_bytes == 1300 * moved.sum() and plan.split_items.sum() == 60
    expected = np.zeros((4, 4), int)
    np.add.at(expected, (owners, plan.encoder), 1)
    assert np.array_equal(plan.split_items, expected)
    assert np.array_equal(plan.split_in_bytes, expected * 1000)
    for arguments, message in (
        (([0, 1], [1.0], [1, 1], [1, 1], 2), "costs has shape"),
        (([0, 9], [1.0, 1.0], [1, 1], [1, 1], 2), "rank"),
        (([0, 1], ["a", 2], [1, 1], [1, 1], 2), "costs has dtype"),
        (([0, 1], [1.0, [2]], [1, 1], [1, 1], 2), "costs is no array"),
        (([0, 1], [1.0, float("nan")], [1, 1], [1, 1], 2), "costs has nan"),
        (([0, 1], [1.0, -1.0], [1, 1], [1, 1], 2), "cost"),
        (([0, 1], [1.0, 1.0], [1, -1], [1, 1], 2), "in_bytes"),
        (([0, 1], [1.0, 1.0], [1, 1], [1, 1], 0), "ranks is 0"),
    ):
        with pytest.raises(UserError, match=message):
            plan_rebalance(*arguments)


def test_bounds() -> None:
    # No two samples of 5 tiles share a pack of 9; volume alone says 56.
    assert lower_bound(np.full((100, 1), 5), [9]) == 100
    sizes = mixed_sizes(2000)
    fast, lp = (lower_bound(sizes, CAPS, kind, names=STREAMS, max_seconds=3) for kind in ("fast", "lp"))
    packs = len(pack(sizes, CAPS, names=STREAMS))
    assert fast <= lp <= packs
    assert lower_bound(sizes, CAPS, "lp", names=STREAMS, known_packs=packs, max_seconds=3) <= packs
    assert lower_bound(np.zeros((0, 1), int), [9]) == 0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 400)), max_size=150), st.integers(1, 4), st.data())
def test_a_stream_is_packed_and_goes_on_from_its_state(rows, per_slot, data) -> None:
    def make() -> StreamPacker:
        return StreamPacker(STREAMS, {"vision": 9, "tokens": 1000}, packs_per_slot=per_slot, window=40, seed=1)

    whole, packer = list(make().slots(enumerate(rows))), make()
    ids = sorted(i for slot in whole for p in slot for i in p)
    assert ids == list(range(len(rows)))
    for slot in whole:
        assert all(sum(rows[i][k] for i in p) <= cap for p in slot for k, cap in enumerate((9, 1000)))
    assert all(len(slot) == per_slot for slot in whole[:-1])
    # Save and restore in the middle.
    cut = data.draw(st.integers(0, len(rows)))
    slots = []
    for i in range(cut):
        packer.push(i, rows[i])
        while (slot := packer.next_slot()) is not None:
            slots.append(slot)
    restored = make()
    restored.load_state_dict(pickle.loads(pickle.dumps(packer.state_dict())))
    assert slots + list(restored.slots((i, rows[i]) for i in range(cut, len(rows)))) == whole
    assert restored.samples_in == restored.samples_out == len(rows)


def test_a_stream_says_what_it_cannot_use() -> None:
    packer = StreamPacker(STREAMS, CAPS, oversize="reject")
    packer.push(7, [99, 1])
    assert [r.sample for r in packer.take_rejected()] == [7] and packer.take_rejected() == []
    for rows in ([1], [1, -1], [1, 2**32], [1, 0.5]):
        with pytest.raises(UserError):
            packer.push(8, rows)
    strict = StreamPacker(STREAMS, CAPS)
    with pytest.raises(UserError, match="99"):
        strict.push(7, [99, 1])
    with pytest.raises(UserError):
        strict.load_state_dict({"packer": b"nonsense"})
    for count in (0, 9, 12):
        with pytest.raises(UserError, match=f"num_streams is {count}; it must be from 1 to 8"):
            StreamPacker([f"s{k}" for k in range(count)], [5] * count)
    assert StreamPacker([f"s{k}" for k in range(8)], [5] * 8).samples_in == 0
    with pytest.raises(UserError, match="window is 0"):
        StreamPacker(STREAMS, CAPS, window=0)
