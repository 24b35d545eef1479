"""Choosing a cap, and the plan of an exchange of media items at run time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gimbal import UserError, _native
from gimbal.balance import arrays
from gimbal.balance.problem import make_problem


def read_costs(file: str | os.PathLike[str], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The costs of the named streams from a JSON file: {"streams": {"tokens": {"per_row": 1.0, "per_pair": 1e-5}, ...}}."""
    return dict(zip(names, _native.read_cost_file(file, list(names))))


def model_costs(
    config: str | os.PathLike[str], names: Sequence[str], *, head_share: float = 1.0
) -> dict[str, tuple[float, float]]:
    """The costs of the named streams in forward FLOPs, from a Hugging Face config.json or the folder that holds one.

    Known streams are `tokens` or `text`, `vision`, `tiles` or `images` (per tile), and `patches`. head_share: the share of the
    text rows that the vocabulary projection works on.
    """
    share = arrays.real_number(head_share, "head_share")
    return dict(zip(names, _native.model_costs(config, list(names), share)))


@dataclass(frozen=True)
class CapPoint:
    """One candidate: predicted time per sample in units of cost, and its spread over resamplings."""

    caps: dict[str, int]
    cost_per_sample: float
    error: float
    packs: float
    fill: float


@dataclass(frozen=True)
class CapChoice:
    """`cap` and `caps`: the choice; `closed_form`: the cap at which all limits are reached together; `pack_overhead`: as given, or
    the default; `curve`: ascending by the sought cap."""

    cap: int
    caps: dict[str, int]
    closed_form: int
    pack_overhead: float
    curve: list[CapPoint]


def choose_cap(
    sizes: Any,
    stream: str | int,
    caps: arrays.Caps,
    *,
    costs: arrays.Costs | None = None,
    pairs: Any = None,
    names: Sequence[str] | None = None,
    samples_per_pack: int = 0,
    pack_overhead: float | None = None,
    phases_in_parallel: bool = True,
    ranks: int = 8,
    memory_bytes: float = 0.0,
    bytes_per_row: Mapping[str, float] | Sequence[float] | None = None,
    seed: int = 0,
) -> CapChoice:
    """The cap of one stream with the least predicted time per sample.

    caps: those of the other streams (an entry for `stream` may be there and is ignored). memory_bytes, bytes_per_row: a memory budget, which what
    the sought cap leaves is shared out of; the other caps may then be None. pack_overhead: fixed cost of a pack, by default 2 % of a pack's. phases_in_parallel: the streams' work is on different ranks
    (pipeline stages), so that a pack takes as long as its most loaded stream.
    """
    if isinstance(caps, Mapping) and isinstance(stream, str):
        caps = {stream: None, **caps}
    problem = make_problem(sizes, caps, costs=costs, pairs=pairs, names=names, samples_per_pack=samples_per_pack)
    number = problem.stream(stream)
    problem.caps[number] = 0
    weights: list[float] = []
    if bytes_per_row is not None:
        values = arrays.per_stream(bytes_per_row, problem.names, "bytes_per_row")
        weights = [arrays.real_number(v, f"bytes_per_row: {name}") for name, v in zip(problem.names, values)]
    elif memory_bytes:
        raise UserError("memory_bytes without bytes_per_row: give the bytes that a row of each stream takes")
    chosen, closed_form, overhead, curve = _native.choose_cap(
        problem.native(),
        stream=number,
        pack_overhead=None if pack_overhead is None else arrays.real_number(pack_overhead, "pack_overhead"),
        phases_in_parallel=bool(phases_in_parallel),
        ranks=arrays.whole_number(ranks, "ranks", least=1, most=2**32),
        memory_bytes=arrays.real_number(memory_bytes, "memory_bytes"),
        bytes_per_row=weights,
        seed=arrays.whole_number(seed, "seed"),
    )
    points = [CapPoint(**point | {"caps": dict(zip(problem.names, point["caps"]))}) for point in curve]
    return CapChoice(chosen[number], dict(zip(problem.names, chosen)), closed_form, overhead, points)


@dataclass(frozen=True)
class RebalancePlan:
    """Which rank encodes which item. The split arrays are [ranks, ranks]; row = sending rank on the way there."""

    encoder: npt.NDArray[np.uint32]
    split_items: npt.NDArray[np.uint64]
    split_in_bytes: npt.NDArray[np.uint64]
    split_out_bytes: npt.NDArray[np.uint64]
    rank_cost: npt.NDArray[np.float64]
    max_cost_before: float
    max_cost: float
    max_cost_lower_bound: float
    moved_bytes: int


def plan_rebalance(
    owners: Any, costs: Any, in_bytes: Any, out_bytes: Any, ranks: int, *, tolerance: float = 0.02
) -> RebalancePlan:
    """Spreads media items over ranks so that their encoders work equally long, with few bytes moved.

    Per item: the rank that holds it, its cost, the bytes sent to the encoding rank and back. The busiest rank may exceed the
    best found by `tolerance` when that saves traffic. A pure function: every rank computes the same.
    """
    ranks = arrays.whole_number(ranks, "ranks", least=1, most=2**31)
    owner_array = arrays.unsigned_array(owners, "owners", ["its rank"], np.uint32)[:, 0]
    cost_array = arrays.real_array(costs, "costs")
    in_array = np.ascontiguousarray(arrays.unsigned_array(in_bytes, "in_bytes", ["its bytes"], np.uint64)[:, 0])
    out_array = np.ascontiguousarray(arrays.unsigned_array(out_bytes, "out_bytes", ["its bytes"], np.uint64)[:, 0])
    for what, array in (("costs", cost_array), ("in_bytes", in_array), ("out_bytes", out_array)):
        if array.shape != owner_array.shape:
            raise UserError(f"{what} has shape {array.shape} for {len(owner_array)} owners; give one entry per item")
    found = _native.plan_rebalance(
        np.ascontiguousarray(owner_array),
        cost_array,
        in_array,
        out_array,
        ranks,
        arrays.real_number(tolerance, "tolerance"),
    )
    return RebalancePlan(**found)
