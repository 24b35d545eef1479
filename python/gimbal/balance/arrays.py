"""Checks what users hand over, and brings it into the form that the extension takes."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gimbal import UserError

MAX_STREAMS = 8
MAX_CAP = 2**63
Caps: TypeAlias = Mapping[str, int | None] | Sequence[int | None]
Costs: TypeAlias = Mapping[str, Any] | Sequence[Any]


def whole_number(value: Any, what: str, *, least: int = 0, most: int = 2**64 - 1) -> int:
    """`value` as int. Numbers like 16.0 and numpy's integers count; True does not."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        raise UserError(f"{what} is {value!r}; give a whole number") from None
    if not least <= number <= most:
        raise UserError(f"{what} is {number}; it must be from {least} to {most}")
    return number


def real_number(value: Any, what: str) -> float:
    """`value` as a finite float of at least 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{what} is {value!r}; give a number") from None
    if not math.isfinite(number) or number < 0:
        raise UserError(f"{what} is {number}; give a finite number of at least 0")
    return number


def stream_names(names: Iterable[str] | None, num_streams: int) -> list[str]:
    if names is None:
        return [f"stream {k}" for k in range(num_streams)]
    result = [str(name) for name in names]
    if len(result) != num_streams:
        raise UserError(f"names has {len(result)} entries for {num_streams} streams (columns of sizes)")
    if len(set(result)) != len(result):
        raise UserError(f"names: {', '.join(result)} names a stream twice")
    return result


def any_array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:  # rows of unlike length
        raise UserError(f"{what} is no array: {error}") from None


def real_array(values: Any, what: str) -> npt.NDArray[np.float64]:
    """`values` as C-contiguous float64 without text, NaN and infinities."""
    array = any_array(values, what)
    if array.dtype.kind not in "iuf":
        raise UserError(f"{what} has dtype {array.dtype}; give numbers")
    array = np.ascontiguousarray(array, dtype=np.float64)
    if not np.isfinite(array).all():
        raise UserError(f"{what} has {array[~np.isfinite(array)][0]}; give finite numbers")
    return array


def unsigned_array(values: Any, what: str, names: Sequence[str] | None, dtype: type[np.unsignedinteger]) -> np.ndarray:
    """[N, K] as C-contiguous `dtype`; the same memory when it is that already, or is its signed twin without negatives."""
    array = any_array(values, what)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise UserError(f"{what} has {array.ndim} dimensions; give [samples, streams]")
    if array.dtype.kind not in "iu":
        hint = f"; round up and use astype(np.{np.dtype(dtype).name})" if array.dtype.kind == "f" else ""
        raise UserError(f"{what} has dtype {array.dtype}; give whole numbers, best {np.dtype(dtype).name}{hint}")
    most = np.iinfo(dtype).max
    low = int(array.min()) if array.size and array.dtype.kind == "i" else 0
    high = int(array.max()) if array.size and np.iinfo(array.dtype).max > most else 0
    if low < 0 or high > most:
        sample, stream = np.argwhere((array < 0) | (array > most))[0]
        name = stream_names(names, array.shape[1])[stream]
        raise UserError(
            f"{what} of sample {sample}, {name}, is {array[sample, stream]}; it must be from 0 to {most}"
        )
    if array.dtype.kind == "i" and array.dtype.itemsize == np.dtype(dtype).itemsize and array.dtype.isnative:
        array = array.view(dtype)
    return np.ascontiguousarray(array, dtype=dtype)


def size_array(sizes: Any, names: Sequence[str] | None = None) -> npt.NDArray[np.uint32]:
    """`sizes` as C-contiguous uint32 [N, K]. No copy for C-contiguous uint32 and int32; other integers are converted."""
    array = unsigned_array(sizes, "sizes", names, np.uint32)
    if not 1 <= array.shape[1] <= MAX_STREAMS:
        raise UserError(f"sizes has {array.shape[1]} streams (columns); 1 to {MAX_STREAMS} are possible")
    if array.shape[0] >= 2**32:
        raise UserError(f"sizes has {array.shape[0]} samples; fewer than 2^32 are possible")
    return array


def pair_array(pairs: Any, shape: tuple[int, ...], names: Sequence[str]) -> npt.NDArray[np.uint64] | None:
    if pairs is None:
        return None
    array = unsigned_array(pairs, "pairs", names, np.uint64)
    if array.shape != shape:
        raise UserError(f"pairs has shape {array.shape}, sizes {shape}; they must be the same")
    return array


def by_name(values: Mapping[str, Any], names: Sequence[str], what: str) -> list[Any]:
    """The values in the order of `names`; every name must occur, and no other."""
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the streams are {', '.join(names)}"
            more = "; give names=[...] to name the columns of sizes" if list(names) == stream_names(None, len(names)) else ""
            raise UserError(f"{what}: no stream is called '{name}'; {hint}{more}")
    for name in names:
        if name not in values:
            raise UserError(f"{what}: stream '{name}' is missing; give {name!r}: None when it has none")
    return [values[name] for name in names]


def per_stream(values: Any, names: Sequence[str], what: str) -> list[Any]:
    if isinstance(values, Mapping):
        return by_name(values, names, what)
    if isinstance(values, (str, bytes)) or not isinstance(values, (Sequence, np.ndarray)):
        raise UserError(f"{what} is {values!r}; give a mapping by stream name, or one entry per stream")
    if len(values) != len(names):
        raise UserError(f"{what} has {len(values)} entries for the {len(names)} streams {', '.join(names)}")
    return list(values)


def row_caps(caps: Caps, names: Sequence[str]) -> list[int]:
    """Per stream the most rows of a pack; 0: no cap."""
    return [
        0 if cap is None else whole_number(cap, f"caps: the cap of {name}", most=MAX_CAP)
        for name, cap in zip(names, per_stream(caps, names, "caps"))
    ]


def stream_costs(costs: Costs | None, names: Sequence[str]) -> list[tuple[float, float]]:
    """Per stream (per_row, per_pair); [] for the default."""
    if costs is None:
        return []
    result = []
    for name, cost in zip(names, per_stream(costs, names, "costs")):
        what = f"costs: the cost of {name}"
        pair = (0.0, 0.0) if cost is None else cost
        if not isinstance(pair, (tuple, list, np.ndarray)):
            pair = (pair, 0.0)
        if len(pair) != 2:
            raise UserError(f"{what} is {cost!r}; give a number per row, or (per_row, per_pair)")
        result.append((real_number(pair[0], what), real_number(pair[1], what)))
    return result


def source_array(sources: Any, num_samples: int) -> tuple[npt.NDArray[np.uint32] | None, list[Any]]:
    """The sources as numbers, and what they are called: given as numbers 0, 1, ... or as names per sample."""
    if sources is None:
        return None, [0]
    array = any_array(sources, "sources")
    if array.shape != (num_samples,):
        raise UserError(f"sources has shape {array.shape}; give one entry for each of the {num_samples} samples")
    if num_samples == 0:
        return None, [0]
    if array.dtype.kind in "US" or (array.dtype == object and all(isinstance(s, str) for s in array)):
        names, numbers = np.unique(array.astype(str), return_inverse=True)
        return numbers.astype(np.uint32), names.tolist()
    numbers = unsigned_array(array, "sources", ["its number"], np.uint32)[:, 0]
    most = int(numbers.max()) if numbers.size else 0
    if most > num_samples:
        raise UserError(f"sources has the number {most} for {num_samples} samples; number the sources 0, 1, 2, ...")
    return np.ascontiguousarray(numbers), list(range(most + 1))


def weight_list(weights: Any, source_names: Sequence[Any]) -> list[float]:
    """Per source how often each sample occurs in an epoch; [] for once."""
    if weights is None:
        return []
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in source_names:
                raise UserError(f"source_weights: no source is called {name!r}; the sources are {list(source_names)}")
        values = [weights.get(name, 1.0) for name in source_names]
    elif isinstance(weights, (str, bytes)) or not isinstance(weights, (Sequence, np.ndarray)):
        raise UserError(f"source_weights is {weights!r}; give a mapping by source, or one entry per source")
    else:
        values = list(weights)
        if len(values) != len(source_names):
            raise UserError(f"source_weights has {len(values)} entries for {len(source_names)} sources")
    return [real_number(value, f"source_weights: the weight of {name}") for name, value in zip(source_names, values)]
