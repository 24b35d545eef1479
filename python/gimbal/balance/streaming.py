"""Packing of samples whose sizes are known only as they arrive: a bounded window, exact state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gimbal import _native
from gimbal.balance import arrays
from gimbal.balance.packed_epoch import Rejection
from gimbal.balance.packing import OVERSIZE, choice


class StreamPacker:
    """Feed with `push`, take with `next_slot`, end with `finish`.

    The same pushes give the same slots, and every id leaves exactly once (or is among `take_rejected`). A slot is
    `packs_per_slot` packs of ids, alike in cost; only the last one may have fewer. At most `window` samples and those of one
    slot are held. For one thread.
    """

    def __init__(
        self,
        names: Sequence[str],
        caps: arrays.Caps,
        *,
        costs: arrays.Costs | None = None,
        packs_per_slot: int = 1,
        window: int = 4096,
        samples_per_pack: int = 0,
        cost_cap: float = 0,
        oversize: str = "error",
        seed: int = 0,
    ) -> None:
        self.names = arrays.stream_names(names, len(names))
        self._native = _native.StreamPacker(
            names=self.names,
            row_caps=arrays.row_caps(caps, self.names),
            samples_per_pack=arrays.whole_number(samples_per_pack, "samples_per_pack"),
            cost_cap=arrays.real_number(cost_cap, "cost_cap"),
            costs=arrays.stream_costs(costs, self.names),
            packs_per_slot=arrays.whole_number(packs_per_slot, "packs_per_slot", least=1),
            window=arrays.whole_number(window, "window", least=1),
            oversize=getattr(_native.Oversize, choice(oversize, OVERSIZE, "oversize")),
            seed=arrays.whole_number(seed, "seed"),
        )

    def push(self, sample_id: int, rows: Sequence[int]) -> None:
        """A sample: the caller's number for it, and its rows in each stream."""
        what = f"rows of sample {sample_id}"
        self._native.push(
            arrays.whole_number(sample_id, "sample_id"), [arrays.whole_number(n, what, most=2**32 - 1) for n in rows]
        )

    def next_slot(self) -> list[list[int]] | None:
        """The next slot; None when more samples are needed first, or all are given."""
        return self._native.next_slot()

    def finish(self) -> None:
        """No more samples come: next_slot gives all that is left."""
        self._native.finish()

    def slots(self, samples: Iterable[tuple[int, Sequence[int]]]) -> Iterator[list[list[int]]]:
        """Pushes (id, rows) one after another and yields the slots, to the end."""
        for sample_id, rows in samples:
            self.push(sample_id, rows)
            while (slot := self.next_slot()) is not None:
                yield slot
        self.finish()
        while (slot := self.next_slot()) is not None:
            yield slot

    def take_rejected(self) -> list[Rejection]:
        """Samples that no pack can hold, since the last call (oversize="reject")."""
        return [Rejection(*r) for r in self._native.take_rejected()]

    @property
    def samples_in(self) -> int:
        return self._native.samples_in

    @property
    def samples_out(self) -> int:
        return self._native.samples_out

    def state_dict(self) -> dict[str, bytes]:
        """Everything that is needed to go on exactly: the samples held and counters."""
        return {"packer": self._native.save()}

    def load_state_dict(self, state: dict[str, bytes]) -> None:
        """Raises UserError for a state of other options or a damaged one."""
        self._native.load(state["packer"])
