"""What is to be packed: sizes, caps and costs, checked once and used by every function of gimbal.balance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gimbal import _native
from gimbal.balance import arrays
from gimbal.balance.lengths import LengthTable


@dataclass(frozen=True)
class Problem:
    """Checked input. `rows` is the caller's memory where that is possible."""

    rows: npt.NDArray[np.uint32]
    pairs: npt.NDArray[np.uint64] | None
    names: list[str]
    caps: list[int]
    costs: list[tuple[float, float]]
    samples_per_pack: int
    cost_cap: float
    sources: npt.NDArray[np.uint32] | None
    source_names: list[Any]
    source_weights: list[float]
    describe: Callable[[int], str] | None

    def native(self) -> _native.Problem:
        return _native.Problem(
            self.rows, self.pairs, self.names, self.caps, self.samples_per_pack, self.cost_cap, self.costs
        )

    def stream(self, stream: str | int) -> int:
        """The number of a stream that is given by name or number."""
        if isinstance(stream, str):
            arrays.by_name({**dict.fromkeys(self.names), stream: None}, self.names, "stream")
            return self.names.index(stream)
        return arrays.whole_number(stream, "stream", most=len(self.names) - 1)


def make_problem(
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
) -> Problem:
    """Raises UserError for what cannot be used. What `sizes` knows as a LengthTable is taken where nothing else is given."""
    describe = None
    if isinstance(sizes, LengthTable):
        table = sizes
        names = table.names if names is None else names
        pairs = table.pairs if pairs is None else pairs
        describe, sizes = table.describe, table.sizes
        if sources is None:
            sources, source_names = table.sources, list(table.source_names)
            source_weights = table.source_weights if source_weights is None else source_weights
        else:
            sources, source_names = arrays.source_array(sources, len(table.sizes))
        rows = arrays.size_array(sizes, names)
    else:
        rows = arrays.size_array(sizes, list(names) if names is not None else None)
        sources, source_names = arrays.source_array(sources, len(rows))
    checked = arrays.stream_names(names, rows.shape[1])
    return Problem(
        rows=rows,
        pairs=arrays.pair_array(pairs, rows.shape, checked),
        names=checked,
        caps=arrays.row_caps(caps, checked),
        costs=arrays.stream_costs(costs, checked),
        samples_per_pack=arrays.whole_number(samples_per_pack, "samples_per_pack"),
        cost_cap=arrays.real_number(cost_cap, "cost_cap"),
        sources=sources,
        source_names=source_names,
        source_weights=arrays.weight_list(source_weights, source_names),
        describe=describe,
    )
