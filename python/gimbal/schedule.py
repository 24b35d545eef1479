"""Pipeline schedules as data: what each rank runs, in order.

    schedule = gimbal.schedule.make("1f1b", ranks=4, micro_batches=8)
    schedule.ranks[0]           # ("0F0", "0F1", ...): stage, kind (F, B, I, W), micro-batch
    schedule.check().in_flight  # (4, 3, 2, 1): micro-batches whose activations a stage holds at a time

Kinds: gpipe, 1f1b, interleaved, zb-h1. B computes all gradients, I those of a stage's inputs, W later those of its weights.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass

from gimbal import UserError, _native

__all__ = ["Schedule", "ScheduleCheck", "UserError", "make", "parse"]


@dataclass(frozen=True)
class ScheduleCheck:
    """`problems` is empty when each (stage, micro-batch) runs once and no rank waits for ever; `in_flight` is then known."""

    problems: tuple[str, ...]
    in_flight: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """Stage s runs on rank s % num_ranks."""

    name: str
    num_ranks: int
    num_stages: int
    num_micro_batches: int
    ranks: tuple[tuple[str, ...], ...]

    @property
    def text(self) -> str:
        """What `parse` reads back: a line with the numbers, then a line per rank."""
        sizes = f"ranks={self.num_ranks} stages={self.num_stages} micro_batches={self.num_micro_batches}"
        return "\n".join([f"{self.name} {sizes}", *(" ".join(actions) or "-" for actions in self.ranks)]) + "\n"

    def check(self) -> ScheduleCheck:
        problems, in_flight = _native.check_schedule(self.text)
        return ScheduleCheck(tuple(problems), tuple(in_flight))


def make(kind: str, ranks: int, micro_batches: int, stages_per_rank: int = 1) -> Schedule:
    """Raises UserError for shapes that the kind does not have; it says which are there."""
    numbers = {"ranks": ranks, "stages_per_rank": stages_per_rank, "micro_batches": micro_batches}
    for name, value in numbers.items():
        if abs(operator.index(value)) >= 2**31:
            raise UserError(f"schedule: {name} is {value}; it must be below {2**31}")
    return _from_text(_native.make_schedule(kind, ranks, stages_per_rank, micro_batches))


def parse(text: str, where: str = "schedule") -> Schedule:
    """Reads a schedule from text. UserErrors name `where`, line and word."""
    return _from_text(_native.parse_schedule(text, where))


def _from_text(text: str) -> Schedule:
    header, *lines = text.splitlines()
    name, *sizes = header.split()
    numbers = [int(size.split("=")[1]) for size in sizes]
    return Schedule(name, *numbers, tuple(() if line == "-" else tuple(line.split()) for line in lines))
