"""gimbal.balance.pack: every sample once, no cap exceeded, no copy, no GIL, progress."""

from __future__ import annotations

import gc
import pickle
import threading
import time
import tracemalloc

import numpy as np
import pytest
from balance_cases import CAPS, LENGTHS, STREAMS, check_packs, examples, mixed_sizes, problems
from hypothesis import strategies as st

from gimbal import UserError, balance

MANY, FEW = 2200, 700


@examples(MANY, problems(), st.integers(0, 2**64 - 1), st.integers(0, 2**63), st.integers(1, 9), st.integers(1, 3))
def test_every_sample_once_and_no_cap_exceeded(problem, seed, epoch, ranks, accumulate) -> None:
    sizes, caps = problem
    packed = balance.pack(sizes, caps, seed=seed, epoch=epoch, ranks=ranks, accumulate=accumulate)
    check_packs(packed.offsets, packed.samples, sizes, caps)
    assert len(packed) >= balance.lower_bound(sizes, caps)
    steps = [packed.for_rank(step, rank, ranks) for step in range(packed.steps) for rank in range(ranks)]
    ran = [pack.tolist() for packs in steps for pack in packs if len(pack)]
    assert sorted(ran) == sorted(pack.tolist() for pack in packed)


@examples(MANY, problems(), st.sampled_from(["isf", "bfd", "gimbal"]), st.integers(0, 9), st.integers(0, 5), st.floats(1, 8))
def test_caps_on_samples_and_cost_hold(problem, method, seed, samples_per_pack, headroom) -> None:
    sizes, caps = problem
    costs = [(1.0 + k, 0.0) for k in range(sizes.shape[1])]
    cost = (sizes * np.array([c[0] for c in costs])).sum(axis=1)
    cost_cap = float(cost.max(initial=1)) * headroom or 1.0
    packed = balance.pack(
        sizes, caps, method=method, seed=seed, samples_per_pack=samples_per_pack, costs=costs, cost_cap=cost_cap
    )
    check_packs(packed.offsets, packed.samples, sizes, caps)
    for pack in packed:
        assert not samples_per_pack or len(pack) <= samples_per_pack
        assert cost[pack].sum() <= cost_cap * (1 + 1e-9)


@examples(MANY, problems(min_samples=1), st.integers(0, 99), st.data())
def test_oversize_samples_are_rejected_or_alone(problem, seed, data) -> None:
    sizes, caps = problem
    caps = [None if cap is None else max(cap // data.draw(st.integers(1, 200)), 1) for cap in caps]
    too_large = {
        i for i in range(len(sizes)) if any(cap is not None and sizes[i, k] > cap for k, cap in enumerate(caps))
    }
    rejecting = balance.pack(sizes, caps, seed=seed, oversize="reject")
    assert [r.sample for r in rejecting.rejected] == sorted(too_large)
    check_packs(rejecting.offsets, rejecting.samples, sizes, caps, sorted(set(range(len(sizes))) - too_large))
    report = rejecting.report
    assert report["samples_in"] == len(sizes) == report["samples_packed"] + report["samples_rejected"]
    alone = balance.pack(sizes, caps, seed=seed, oversize="alone")
    assert sorted(alone.samples.tolist()) == list(range(len(sizes)))
    for pack in alone:
        assert len(pack) == 1 or not too_large & set(pack.tolist())
    if too_large:
        with pytest.raises(UserError, match=f"sample {min(too_large)}"):
            balance.pack(sizes, caps, seed=seed)


@examples(FEW, problems(), st.integers(0, 99), st.data())
def test_weights_per_source_give_whole_and_expected_counts(problem, seed, data) -> None:
    sizes, caps = problem
    sources = np.arange(len(sizes)) % 3
    weights = data.draw(st.lists(st.sampled_from([0, 0.5, 1, 2, 2.5]), min_size=3, max_size=3))
    packed = balance.pack(
        sizes, caps, seed=seed, sources=[f"s{i}" for i in sources],
        source_weights={f"s{i}": weights[i] for i in set(sources.tolist())} if len(sizes) else None,
    )  # fmt: skip
    counts = np.bincount(packed.samples, minlength=len(sizes)) if len(sizes) else np.zeros(0, int)
    for i, count in enumerate(counts):
        assert int(weights[sources[i]]) <= count <= -(-weights[sources[i]] // 1)
    check_packs(packed.offsets, packed.samples, sizes, caps, packed.samples.tolist())
    for source, count in packed.report["source_counts"].items():
        assert count == (counts[sources == int(source[1:])].sum() if len(sizes) else 0)


@examples(FEW, problems(min_samples=1), st.integers(0, 99), st.sampled_from(["random", "length"]), st.integers(1, 9))
def test_padded_mini_batches_hold_each_sample_once(problem, seed, method, size) -> None:
    sizes, caps = problem
    packed = balance.pack(sizes, caps, seed=seed, method=method, samples_per_pack=size)
    assert sorted(packed.samples.tolist()) == list(range(len(sizes)))
    lengths = np.diff(packed.offsets.astype(np.int64))
    assert (lengths <= size).all() and len(lengths) == -(-len(sizes) // size)


def test_is_a_pure_function_and_epochs_differ() -> None:
    sizes = mixed_sizes(2000)
    first, again = (balance.pack(sizes, CAPS, names=STREAMS, ranks=4, seed=5) for _ in range(2))
    other = balance.pack(sizes, CAPS, names=STREAMS, ranks=4, seed=5, epoch=1)
    assert np.array_equal(first.samples, again.samples) and np.array_equal(first.offsets, again.offsets)
    assert not np.array_equal(first.samples, other.samples)
    given_patterns = balance.pack(sizes, CAPS, names=STREAMS, ranks=4, seed=5, epoch=1, patterns=first.patterns)
    assert np.array_equal(given_patterns.samples, other.samples), "the patterns do not depend on the epoch"


def test_is_near_the_bound_on_real_lengths() -> None:
    table = balance.read_lengths(LENGTHS)
    packed = balance.pack(table, CAPS, ranks=8)
    report = packed.report
    assert report["samples_in"] == 40941 and report["packs"] == len(packed) <= 10378
    assert max(report["waste"].values()) < 0.01
    assert set(report["fill"]) == {"vision", "tokens"} and 0.9 < report["fill"]["vision"] <= 1
    assert report["packs_lower_bound"] <= balance.lower_bound(table, CAPS, "lp", max_seconds=5) <= len(packed)
    assert "peak_bytes" not in report  # the process's peak says nothing about packing
    assert set(report["source_counts"]) == {"ai2d_12k", "chartqa_18k", "docvqa_10k"}


@pytest.mark.parametrize("dtype", [np.uint32, np.int32])
def test_sizes_are_not_copied(dtype) -> None:
    sizes = np.ascontiguousarray(np.tile(mixed_sizes(1000), (200, 1)), dtype=dtype)
    balance.pack(sizes[:100], CAPS, names=STREAMS, method="bfd")  # what is imported late is imported now
    tracemalloc.start()
    packed = balance.pack(sizes, CAPS, names=STREAMS, method="bfd")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < sizes.nbytes / 4
    assert len(packed.samples) == len(sizes)


def test_results_are_views_that_outlive_the_epoch() -> None:
    packed = balance.pack(mixed_sizes(500), CAPS, names=STREAMS)
    samples, expected = packed.samples, packed.samples.copy()
    assert not samples.flags.owndata and not samples.flags.writeable and not packed.offsets.flags.writeable
    assert np.shares_memory(packed[3], samples) and np.shares_memory(packed.pack(0, 0), samples)
    with pytest.raises(ValueError, match="read-only"):
        samples[0] = 1
    del packed
    gc.collect()
    assert np.array_equal(samples, expected)


def test_other_integer_types_are_converted() -> None:
    sizes = mixed_sizes(300)
    expected = balance.pack(sizes, CAPS, names=STREAMS).samples
    for other in (sizes.astype(np.int64), sizes.astype(np.uint16), np.asfortranarray(sizes), sizes.astype(">u4"), sizes.tolist()):
        assert np.array_equal(balance.pack(other, CAPS, names=STREAMS).samples, expected)
    one = balance.pack(sizes[:, 1], [5376])
    assert np.array_equal(one.samples, balance.pack(sizes[:, 1:], [5376]).samples)


def test_other_threads_run_meanwhile() -> None:
    sizes = np.tile(mixed_sizes(1000), (200, 1))
    count, done = 0, threading.Event()
    longest_gap = 0.0

    def tick() -> None:
        nonlocal count, longest_gap
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.001)
            now = time.perf_counter()
            longest_gap, last, count = max(longest_gap, now - last), now, count + 1

    thread = threading.Thread(target=tick)
    thread.start()
    begin = time.perf_counter()
    balance.pack(sizes, CAPS, names=STREAMS)
    seconds = time.perf_counter() - begin
    done.set()
    thread.join()
    # With the GIL held the thread would stand still for nearly all of the time.
    assert count > 5 and longest_gap < seconds / 2


def test_progress_rises_from_0_to_1() -> None:
    shares: list[float] = []
    balance.pack(mixed_sizes(20000), CAPS, names=STREAMS, progress=shares.append)
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)


def test_progress_can_stop_and_raise() -> None:
    sizes = mixed_sizes(5000)
    with pytest.raises(balance.Stopped, match="stopped by the progress function"):
        balance.pack(sizes, CAPS, names=STREAMS, progress=lambda share: share < 0.5)
    with pytest.raises(balance.Stopped):
        balance.solve_patterns(sizes, CAPS, names=STREAMS, progress=lambda share: False)

    def interrupt(share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        balance.pack(sizes, CAPS, names=STREAMS, progress=interrupt)
    with pytest.raises(ZeroDivisionError):
        balance.lower_bound(sizes, CAPS, "lp", names=STREAMS, progress=lambda share: 1 / 0)


def test_an_interrupt_from_the_keyboard_is_noticed() -> None:
    import signal

    pid_done = threading.Event()

    def press() -> None:
        if not pid_done.wait(0.05):
            signal.raise_signal(signal.SIGINT)

    sizes = np.random.default_rng(0).integers(1, 3000, (200_000, 2)).astype(np.uint32)
    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        balance.pack(sizes, [16384, 16384])
        time.sleep(1)  # a signal that comes late is raised here
    pid_done.set()
    thread.join()


def test_patterns_are_saved_loaded_and_pickled(tmp_path) -> None:
    sizes = balance.read_lengths(LENGTHS).sizes
    patterns = balance.solve_patterns(sizes, CAPS, names=STREAMS)
    assert len(patterns) > 0 and patterns.complete and patterns.lp_value > 0
    patterns.save(tmp_path / "p")
    packed = balance.pack(sizes, CAPS, names=STREAMS)
    for copy in (balance.Patterns.load(str(tmp_path / "p")), pickle.loads(pickle.dumps(patterns))):
        assert copy.fingerprint == patterns.fingerprint
        assert np.array_equal(balance.pack(sizes, CAPS, names=STREAMS, patterns=copy).samples, packed.samples)
    assert np.array_equal(balance.pack(sizes, CAPS, names=STREAMS, patterns=tmp_path / "p").samples, packed.samples)
    with pytest.raises(UserError, match="cap"):
        balance.pack(sizes, CAPS | {"vision": 15}, names=STREAMS, patterns=patterns)
    with pytest.raises(TypeError, match="constructor"):
        balance.Patterns()  # there are none without caps
    (tmp_path / "p").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="p"):
        balance.Patterns.load(tmp_path / "p")


def test_empty_patterns_keep_their_caps(tmp_path) -> None:
    sizes = mixed_sizes(300)  # too few samples for patterns
    empty = balance.pack(sizes, CAPS, names=STREAMS).patterns
    assert len(empty) == 0 and empty.caps == [16, 5376]
    empty.save(tmp_path / "p")
    for copy in (balance.Patterns.load(tmp_path / "p"), pickle.loads(pickle.dumps(empty))):
        assert len(copy) == 0 and copy.caps == empty.caps and copy.fingerprint == empty.fingerprint
        again = balance.pack(sizes, CAPS, names=STREAMS, patterns=copy)
        assert np.array_equal(again.samples, balance.pack(sizes, CAPS, names=STREAMS).samples)


def test_packs_are_saved_and_loaded(tmp_path) -> None:
    packed = balance.pack(mixed_sizes(700), CAPS, names=STREAMS, ranks=4, accumulate=2, seed=3, epoch=2)
    balance.save_packs(packed, tmp_path / "packs.bin")
    loaded = balance.load_packs(str(tmp_path / "packs.bin"))
    assert np.array_equal(loaded.offsets, packed.offsets) and np.array_equal(loaded.samples, packed.samples)
    for name in ("num_samples", "packs_per_step", "packs_per_slot", "seed", "epoch", "steps"):
        assert getattr(loaded, name) == getattr(packed, name)
    with pytest.raises(UserError, match="pack them anew"):
        loaded.report
    content = (tmp_path / "packs.bin").read_bytes()
    (tmp_path / "packs.bin").write_bytes(content[:-5])
    with pytest.raises(UserError, match="packs.bin"):
        balance.load_packs(tmp_path / "packs.bin")


def test_a_packed_epoch_can_be_pickled() -> None:
    packed = balance.pack(mixed_sizes(200), CAPS, names=STREAMS, ranks=2)
    copy = pickle.loads(pickle.dumps(packed))
    assert np.array_equal(copy.samples, packed.samples) and copy.report == packed.report
    assert [p.tolist() for p in copy] == [p.tolist() for p in packed]


def test_steps_and_places() -> None:
    packed = balance.pack(mixed_sizes(203), CAPS, names=STREAMS, ranks=3, accumulate=2)
    assert packed.packs_per_step == 6 and packed.steps == -(-len(packed) // 6)
    assert np.array_equal(packed.pack(1, 2), packed[8])
    with pytest.raises(IndexError):
        packed.pack(packed.steps, 0)
    with pytest.raises(IndexError):
        packed.pack(0, 6)
    with pytest.raises(IndexError):
        packed[len(packed)]
    with pytest.raises(UserError, match="rank 3 of 3"):
        packed.for_rank(0, 3, 3)
    # Every other turn goes the other way round.
    assert [p.tolist() for p in packed.for_rank(0, 0, 3)] == [packed[0].tolist(), packed[5].tolist()]
    assert packed.measure(2)["slots"] >= packed.report["slots"]
