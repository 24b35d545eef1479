"""Makes the last steps of an epoch whole by splitting packs: no sample is lost or repeated, no cap exceeded."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gimbal import UserError
from gimbal.balance.problem import Problem

Parts = list[list[int]]


def sample_weights(problem: Problem, samples: npt.NDArray[np.uint32]) -> list[int]:
    """How large samples are, as whole numbers, so that every machine orders them the same: their shares of the caps."""
    rows = problem.rows[samples].astype(np.uint64)
    weights = np.ones(len(samples), np.uint64)
    for k, cap in enumerate(problem.caps):
        # 2^20 steps per cap; a row number is below 2^32, so nothing overflows.
        weights += (rows[:, k] << np.uint64(20)) // np.uint64(cap) if cap else rows[:, k]
    return weights.tolist()


def _halves(part: Sequence[int], weight: dict[int, int]) -> tuple[list[int], list[int]]:
    """The part in two of like weight, neither empty: the heaviest first, each to the lighter side."""
    halves: tuple[list[int], list[int]] = ([], [])
    sums = [0, 0]
    for sample in sorted(part, key=lambda s: -weight[s]):
        side = int(sums[1] < sums[0])
        halves[side].append(sample)
        sums[side] += weight[sample]
    return halves


def split_parts(parts: Parts, count: int, weight: dict[int, int]) -> Parts:
    """Splits the heaviest parts until there are `count`, which are returned heaviest first. There must be enough samples."""

    def total(part: list[int]) -> int:
        return sum(weight[s] for s in part)

    heap = [(-total(part), number, part) for number, part in enumerate(parts) if len(part) > 1]
    done = [(-total(part), number, part) for number, part in enumerate(parts) if len(part) <= 1]
    heapq.heapify(heap)
    next_number = len(parts)
    while len(heap) + len(done) < count:
        _, number, part = heapq.heappop(heap)
        for half in _halves(part, weight):
            entry = (-total(half), number, half)
            heapq.heappush(heap, entry) if len(half) > 1 else done.append(entry)
            number, next_number = next_number, next_number + 1
    return [part for _, _, part in sorted(heap + done)]


def whole_steps(
    offsets: npt.NDArray[np.uint64],
    samples: npt.NDArray[np.uint32],
    problem: Problem,
    packs_per_step: int,
    steps: int | None = None,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """The packs with every step whole: `steps` steps, by default as many as there are begun ones.

    Packs at the end of the epoch are split into more. As few steps as possible are touched, and which ones depends on the
    packs and `packs_per_step` alone, not on the number of ranks.
    """
    packs = len(offsets) - 1
    steps = -(-packs // packs_per_step) if steps is None else steps
    wanted = steps * packs_per_step
    if wanted == packs:
        return offsets, samples
    if wanted < packs:
        raise UserError(f"{packs} packs do not fit into {steps} steps of {packs_per_step}; raise equal_epochs")
    if wanted > len(samples):
        raise UserError(
            f"{len(samples)} samples cannot give {steps} steps of {packs_per_step} packs without an empty one: most packs hold "
            'one sample. Use fewer ranks or packs_per_step, or incomplete="empty" and a collate function that takes an empty list'
        )
    first = packs // packs_per_step  # the first step that is touched
    while len(samples) - int(offsets[first * packs_per_step]) < wanted - first * packs_per_step:
        first -= 1
    begin = first * packs_per_step
    tail = samples[offsets[begin] :]
    weight = dict(zip(tail.tolist(), sample_weights(problem, tail)))
    parts = [samples[offsets[p] : offsets[p + 1]].tolist() for p in range(begin, packs)]
    parts = split_parts(parts, wanted - begin, weight)
    lengths = np.array([len(part) for part in parts], np.uint64)
    new_offsets = np.concatenate([offsets[: begin + 1], offsets[begin] + np.cumsum(lengths, dtype=np.uint64)])
    new_samples = np.concatenate([samples[: offsets[begin]], np.array([s for p in parts for s in p], np.uint32)])
    new_offsets.flags.writeable = new_samples.flags.writeable = False  # as those of the packer
    return new_offsets, new_samples
