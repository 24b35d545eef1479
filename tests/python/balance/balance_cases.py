"""Random sizes and caps, and what every packing must satisfy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parents[3]
LENGTHS = [REPOSITORY / f"bench/balance/lengths/{name}.csv" for name in ("ai2d_12k", "chartqa_18k", "docvqa_10k")]


def examples(usual: int, *strategies: st.SearchStrategy) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """A property as a test of `usual` random examples, and of 10,000 as a slow test."""

    def decorate(check: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("count", [usual, pytest.param(10_000, marks=pytest.mark.slow)])
        def test(count: int) -> None:
            run = settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))
            run(given(*strategies)(check))()

        test.__name__ = check.__name__
        return test

    return decorate


@st.composite
def problems(draw: st.DrawFn, *, max_samples: int = 60, min_samples: int = 0) -> tuple[np.ndarray, list[int | None]]:
    """sizes [N, K] and caps that every sample fits. At least one stream has a cap."""
    num_streams = draw(st.integers(1, 8))
    num_samples = draw(st.integers(min_samples, max_samples))
    largest = draw(st.sampled_from([0, 1, 3, 10, 1000, 2**31, 2**32 - 1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):  # few kinds of samples
        kinds = rng.integers(0, largest, (draw(st.integers(1, 4)), num_streams), endpoint=True)
        sizes = kinds[rng.integers(0, len(kinds), num_samples)]
    else:
        sizes = rng.integers(0, largest, (num_samples, num_streams), endpoint=True)
    sizes = (sizes * rng.integers(0, 2, num_streams)).astype(np.uint32)  # some streams have no rows
    tallest = sizes.max(axis=0, initial=0).astype(object)
    caps: list[int | None] = [int(t * draw(st.sampled_from([1, 2, 3, 7, 100]))) or 1 for t in tallest]
    for k in range(1, num_streams):
        if draw(st.integers(0, 3)) == 0:
            caps[k] = None
    return sizes, caps


def check_packs(
    offsets: np.ndarray, samples: np.ndarray, sizes: np.ndarray, caps: Sequence[int | None], expected: Sequence[int] | None = None
) -> None:
    """Every sample exactly once (or as `expected`), no empty pack, no cap exceeded."""
    expected = range(len(sizes)) if expected is None else expected
    assert sorted(samples.tolist()) == sorted(expected)
    assert offsets[0] == 0 and offsets[-1] == len(samples)
    assert (np.diff(offsets.astype(np.int64)) > 0).all()
    if len(samples):
        totals = np.add.reduceat(sizes[samples].astype(object), offsets[:-1].astype(np.int64), axis=0)
        for k, cap in enumerate(caps):
            assert cap is None or max(totals[:, k]) <= cap


def mixed_sizes(num_samples: int, seed: int = 0) -> np.ndarray:
    """Samples with 0 to 5 tiles and tokens to match."""
    rng = np.random.default_rng(seed)
    tiles = rng.choice([0, 1, 3, 5], num_samples, p=[0.1, 0.35, 0.05, 0.5])
    return np.stack([tiles, tiles * 256 + rng.integers(20, 600, num_samples)], axis=1).astype(np.uint32)


STREAMS = ["vision", "tokens"]
CAPS = {"vision": 16, "tokens": 5376}
