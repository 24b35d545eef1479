"""`pack`: from sizes and caps to an epoch of packs; and the lower bounds on their number."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gimbal import UserError, _native
from gimbal.balance import arrays
from gimbal.balance.packed_epoch import PackedEpoch
from gimbal.balance.problem import Problem, make_problem

METHODS = ("gimbal", "isf", "bfd", "random", "length")
OVERSIZE = ("error", "reject", "alone")
_PADDED = ("random", "length")


def choice(value: str, values: Sequence[str], what: str) -> str:
    if value not in values:
        raise UserError(f"{what}={value!r}; use one of {', '.join(values)}")
    return value


def seconds_or_none(value: float | None, what: str) -> float:
    return math.inf if value is None else arrays.real_number(value, what)


def pack(
    sizes: Any,
    caps: arrays.Caps,
    *,
    costs: arrays.Costs | None = None,
    pairs: Any = None,
    method: str = "gimbal",
    seed: int = 0,
    epoch: int = 0,
    ranks: int = 1,
    accumulate: int = 1,
    sources: Any = None,
    source_weights: Any = None,
    oversize: str = "error",
    samples_per_pack: int = 0,
    cost_cap: float = 0,
    patterns: _native.Patterns | str | os.PathLike[str] | None = None,
    names: Sequence[str] | None = None,
    progress: Callable[[float], object] | None = None,
    pattern_seconds: float | None = None,
    length_stream: str | int | None = None,
    isf_rounds: int = 50,
) -> PackedEpoch:
    """Packs one epoch: every sample in exactly one pack, no cap exceeded, packs few and alike.

    A pure function of its arguments: every rank that calls it gets the same.

    sizes: [N, K] rows of N samples in K streams (tokens, tiles, ...; K from 1 to 8), or what `read_lengths` returns.
        C-contiguous uint32 and int32 are used as they are, without a copy; do not change them while the result is in use.
        Other integers are checked and converted. Floats are an error.
    caps: per stream the most rows of a pack, as {name: cap} or in the order of the columns; None for no cap.
    costs: per stream what a row costs, or (per_row, per_pair), by name or in order: `per_row * rows + per_pair * pairs`, in any unit;
        see `model_costs` and `read_costs`. By default a full pack costs 1 in each capped stream.
    pairs: [N, K] sums of squared lengths of what attends to itself; default rows^2.
    method: "gimbal", or for comparison "isf" (OmniBal's, `isf_rounds` rounds), "bfd" (best fit decreasing), "random" and
        "length" (mini-batches of `samples_per_pack`, which ignore the caps; "length" sorts by `length_stream`, by default the
        stream with most rows).
    ranks, accumulate: a step has ranks * accumulate packs; the packs that `ranks` ranks run at the same time cost the same.
    sources: per sample a number from 0 or a name. source_weights: how often samples of a source occur in an epoch, as
        {source: weight} or a list; 0.5 takes half of them, 2 each of them twice. By default 1, or what a dataset folder says.
    oversize: for samples that exceed a cap alone: "error", "reject" (left out, see `rejected`) or "alone" (own packs).
    samples_per_pack, cost_cap: caps on the number of samples and on the cost of a pack; 0 for none.
    patterns: from `solve_patterns`, from another epoch's `.patterns`, or a file; solved anew otherwise, which takes seconds
        and is stopped by rounds. With a limit of `pattern_seconds` the result may differ from machine to machine.
    names: of the streams. progress: called with the share that is done, in [0, 1]; False as its result raises `Stopped`.

    The GIL is released meanwhile. Ctrl-C is noticed while patterns are solved, and before and after packing.
    """
    choice(method, METHODS, "method")
    problem = make_problem(
        sizes, caps, costs=costs, pairs=pairs, names=names, cost_cap=cost_cap,
        samples_per_pack=0 if method in _PADDED else samples_per_pack,
        sources=sources, source_weights=source_weights,
    )  # fmt: skip
    ranks = arrays.whole_number(ranks, "ranks", least=1, most=2**32)
    group = arrays.whole_number(samples_per_pack, "samples_per_pack") if method in _PADDED else 0
    if method in _PADDED and group == 0:
        raise UserError(f"method={method!r} makes mini-batches: give samples_per_pack")
    return pack_problem(
        problem,
        method=method,
        oversize=oversize,
        seed=seed,
        epoch=epoch,
        packs_per_step=ranks * arrays.whole_number(accumulate, "accumulate", least=1, most=2**31),
        packs_per_slot=ranks,
        samples_per_group=group,
        length_stream=length_stream,
        isf_rounds=isf_rounds,
        patterns=patterns,
        pattern_seconds=pattern_seconds,
        progress=progress,
    )


def pack_problem(
    problem: Problem,
    *,
    method: str,
    oversize: str,
    seed: int,
    epoch: int,
    packs_per_step: int,
    packs_per_slot: int,
    samples_per_group: int = 0,
    length_stream: str | int | None = None,
    isf_rounds: int = 50,
    patterns: _native.Patterns | str | os.PathLike[str] | None = None,
    pattern_seconds: float | None = None,
    progress: Callable[[float], object] | None = None,
) -> PackedEpoch:
    """`pack` after its input has been checked."""
    if isinstance(patterns, (str, os.PathLike)):
        patterns = _native.Patterns.load(patterns)
    if length_stream is None and method != "length":
        length_stream = 0  # not read
    elif length_stream is None:
        length_stream = int(np.argmax(problem.rows.sum(axis=0, dtype=np.uint64)))
    native = _native.pack(
        problem.native(),
        method=getattr(_native.Method, choice(method, METHODS, "method")),
        oversize=getattr(_native.Oversize, choice(oversize, OVERSIZE, "oversize")),
        seed=arrays.whole_number(seed, "seed"),
        epoch=arrays.whole_number(epoch, "epoch", most=2**64 - 2),
        packs_per_step=packs_per_step,
        packs_per_slot=packs_per_slot,
        samples_per_group=samples_per_group,
        length_stream=problem.stream(length_stream),
        isf_rounds=arrays.whole_number(isf_rounds, "isf_rounds", least=1, most=10**6),
        sources=problem.sources,
        source_weights=problem.source_weights,
        patterns=patterns,
        pattern_seconds=seconds_or_none(pattern_seconds, "pattern_seconds"),
        describe=problem.describe,
        progress=progress,
    )
    return PackedEpoch(
        native.offsets,
        native.samples,
        num_samples=len(problem.rows),
        packs_per_step=packs_per_step,
        packs_per_slot=packs_per_slot,
        seed=int(seed),
        epoch=int(epoch),
        stream_names=problem.names,
        source_names=problem.source_names,
        native=native,
    )


def lower_bound(
    sizes: Any,
    caps: arrays.Caps,
    kind: str = "fast",
    *,
    costs: arrays.Costs | None = None,
    pairs: Any = None,
    names: Sequence[str] | None = None,
    samples_per_pack: int = 0,
    cost_cap: float = 0,
    max_seconds: float = 60.0,
    known_packs: int = 0,
    progress: Callable[[float], object] | None = None,
) -> int:
    """No packing of the samples has fewer packs.

    "fast": volume and dual feasible functions, in linear time. "lp": the linear program over patterns by column generation,
    seconds; stopped after `max_seconds` it is weaker, but true all the same. Samples that exceed a cap count as a pack each.
    known_packs: a packing of so many packs is known; the search ends when the bound reaches it.
    """
    choice(kind, ("fast", "lp"), "kind")
    native = make_problem(
        sizes, caps, costs=costs, pairs=pairs, names=names, samples_per_pack=samples_per_pack, cost_cap=cost_cap
    ).native()
    if kind == "fast":
        return _native.fast_lower_bound(native)
    known_packs = arrays.whole_number(known_packs, "known_packs")
    return _native.lp_lower_bound(native, arrays.real_number(max_seconds, "max_seconds"), known_packs, progress)
