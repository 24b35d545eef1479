"""A packed epoch: which samples are together, and in which order the packs are run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gimbal import UserError, _native


class Rejection(NamedTuple):
    """A sample that no pack can hold, and why."""

    sample: int
    reason: str


def pack_index(step_round: int, rank: int, ranks: int) -> int:
    """Which pack of a step a rank runs in its `step_round`-th turn. Every other turn goes the other way round: the packs of a
    slot are sorted by cost, and no rank should always have the dearer one."""
    return step_round * ranks + (rank if step_round % 2 == 0 else ranks - 1 - rank)


class PackedEpoch:
    """Packs in the order in which they are run. Pack p holds `samples[offsets[p]:offsets[p + 1]]`.

    Steps have `packs_per_step` packs, but for the last one, which may have fewer. `packs_per_slot` packs run at the same time
    and cost the same. The arrays are read-only and belong to the packer: nothing is copied.
    """

    def __init__(
        self,
        offsets: npt.NDArray[np.uint64],
        samples: npt.NDArray[np.uint32],
        *,
        num_samples: int,
        packs_per_step: int = 1,
        packs_per_slot: int = 1,
        seed: int = 0,
        epoch: int = 0,
        stream_names: list[str] | None = None,
        source_names: list[Any] | None = None,
        native: _native.Epoch | None = None,
    ) -> None:
        self.offsets = offsets
        self.samples = samples
        self.num_samples = num_samples
        self.packs_per_step = packs_per_step
        self.packs_per_slot = packs_per_slot
        self.seed = seed
        self.epoch = epoch
        self.stream_names = stream_names or []
        self._source_names = source_names or []
        self._native = native
        self._split = False
        self._reports: dict[int, dict[str, Any]] = {}
        self.patterns = native.patterns if native is not None else None
        self.rejected = [Rejection(*r) for r in native.rejected] if native is not None else []
        self.alone = [Rejection(*r) for r in native.alone] if native is not None else []

    def __len__(self) -> int:
        """Number of packs."""
        return len(self.offsets) - 1

    def __getitem__(self, p: int) -> npt.NDArray[np.uint32]:
        """The samples of pack `p`."""
        count = len(self)
        if not -count <= p < count:
            raise IndexError(f"pack {p} of {count}")
        p %= count
        return self.samples[self.offsets[p] : self.offsets[p + 1]]

    def __iter__(self) -> Iterator[npt.NDArray[np.uint32]]:
        return (self[p] for p in range(len(self)))

    def __repr__(self) -> str:
        return f"PackedEpoch({len(self.samples)} samples in {len(self)} packs, {self.steps} steps, epoch {self.epoch})"

    @property
    def steps(self) -> int:
        return -(-len(self) // self.packs_per_step)

    def pack(self, step: int, i: int) -> npt.NDArray[np.uint32]:
        """Samples of the i-th pack of a step; empty past the last pack of the last step."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        if not 0 <= i < self.packs_per_step:
            raise IndexError(f"pack {i} of a step of {self.packs_per_step}")
        p = step * self.packs_per_step + i
        return self[p] if p < len(self) else self.samples[:0]

    def for_rank(self, step: int, rank: int, ranks: int) -> list[npt.NDArray[np.uint32]]:
        """The packs that a rank runs in a step, one after another: as many for every rank. Empty arrays where packs are
        missing."""
        if ranks < 1 or not 0 <= rank < ranks:
            raise UserError(f"rank {rank} of {ranks}: ranks are numbered from 0")
        turns = range(-(-self.packs_per_step // ranks))
        places = [pack_index(turn, rank, ranks) for turn in turns]
        return [self.pack(step, i) if i < self.packs_per_step else self.samples[:0] for i in places]

    @property
    def report(self) -> dict[str, Any]:
        """Fill, waste, bound and times as `packs_per_slot` ranks run the packs. docs/balance.md defines them, and
        docs/balance_python.md lists the keys."""
        return self.measure(self.packs_per_slot)

    def measure(self, ranks: int) -> dict[str, Any]:
        """The report as another number of ranks runs the packs."""
        if ranks not in self._reports:
            if self._native is None:
                raise UserError("packs from a file have no sizes, so there is no report; pack them anew to have one")
            native = self._native
            found = native.measure(self.offsets, self.samples, ranks) if self._split else native.report(ranks)
            names = self.stream_names
            found["fill"] = dict(zip(names, found["fill"]))
            found["waste"] = dict(zip(names, found["waste"])) | {"cost": found.pop("cost_waste")}
            found["dist_ratio"] = dict(zip(names, found["dist_ratio"]))
            found["source_counts"] = dict(zip(self._source_names, native.source_counts))
            self._reports[ranks] = found
        return self._reports[ranks]

    def replace_packs(self, offsets: npt.NDArray[np.uint64], samples: npt.NDArray[np.uint32]) -> None:
        """Other packs of the same samples, which the report then measures."""
        if offsets is not self.offsets or samples is not self.samples:
            self.offsets, self.samples, self._split = offsets, samples, True
            self._reports = {}

    def __getstate__(self) -> dict[str, Any]:
        if self._native is not None:
            self.measure(self.packs_per_slot)  # while the sizes are at hand
        return self.__dict__ | {"_native": None}


def save_packs(packed: PackedEpoch, file: str | os.PathLike[str]) -> None:
    """Writes a pack file (docs/balance_command.md), which C++ and Python read. Written to a temporary name and renamed."""
    _native.save_packs(
        file,
        offsets=packed.offsets,
        samples=packed.samples,
        num_samples=packed.num_samples,
        packs_per_step=packed.packs_per_step,
        packs_per_slot=packed.packs_per_slot,
        seed=packed.seed,
        epoch=packed.epoch,
    )


def load_packs(file: str | os.PathLike[str]) -> PackedEpoch:
    """Reads a pack file. Raises UserError for one that is damaged, cut short or of another version."""
    return PackedEpoch(**_native.load_packs(file))
