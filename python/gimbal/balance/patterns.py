"""Patterns: how many samples of which size fill a pack. Solved once per data set and caps, used in every epoch."""

from __future__ import annotations

import copyreg
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gimbal import _native
from gimbal._native import Patterns
from gimbal.balance import arrays
from gimbal.balance.packing import OVERSIZE, choice, seconds_or_none
from gimbal.balance.problem import make_problem


def solve_patterns(
    sizes: Any,
    caps: arrays.Caps,
    *,
    costs: arrays.Costs | None = None,
    pairs: Any = None,
    names: Sequence[str] | None = None,
    samples_per_pack: int = 0,
    cost_cap: float = 0,
    sources: Any = None,
    source_weights: Any = None,
    oversize: str = "error",
    seed: int = 0,
    max_seconds: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> Patterns:
    """Solves the patterns of a data set under caps, as `pack` would on first use.

    They are empty (len 0) when the heuristic packs the samples better, or when they are few. By default solving is stopped by
    rounds and not by time, so every machine finds the same. With a limit of `max_seconds` other patterns may come out on
    another machine: then solve them once, save them, and give the file to all ranks.
    """
    problem = make_problem(
        sizes, caps, costs=costs, pairs=pairs, names=names, samples_per_pack=samples_per_pack, cost_cap=cost_cap,
        sources=sources, source_weights=source_weights,
    )  # fmt: skip
    return _native.solve_patterns(
        problem.native(),
        oversize=getattr(_native.Oversize, choice(oversize, OVERSIZE, "oversize")),
        seed=arrays.whole_number(seed, "seed"),
        sources=problem.sources,
        source_weights=problem.source_weights,
        max_seconds=seconds_or_none(max_seconds, "max_seconds"),
        describe=problem.describe,
        progress=progress,
    )


def as_patterns(patterns: Patterns | str | os.PathLike[str] | None) -> Patterns | None:
    """Patterns themselves, or those in a file."""
    return Patterns.load(patterns) if isinstance(patterns, (str, os.PathLike)) else patterns


# A pickle holds the bytes of a pattern file, so that there is one format to check and to keep.
def _from_bytes(content: bytes) -> Patterns:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "patterns"
        file.write_bytes(content)
        return Patterns.load(file)


def _reduce(patterns: Patterns) -> tuple[Callable[[bytes], Patterns], tuple[bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "patterns"
        patterns.save(file)
        return _from_bytes, (file.read_bytes(),)


copyreg.pickle(Patterns, _reduce)
