"""Reads `metrics.jsonl`: one JSON object a line, of kind train, eval, skipped, summary, prediction or
communication.

A run may have been killed in mid-line and gone on from an older checkpoint: a broken line is counted, not fatal, and
records of steps that were run again are replaced by the later ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Record = dict[str, Any]

METRICS = "metrics.jsonl"  # in the folder of a stage


@dataclass(frozen=True)
class MeshPart:
    """The steps after `begin` are done on `mesh`, up to the next part."""

    mesh: str
    processes: float | None
    begin: int


@dataclass
class Metrics:
    """The records by kind, in step order. `starts` counts the summary lines, one for each start of the run.
    `prediction` and `communication` are of the mesh of `summary`; they are written when a start ends."""

    train: list[Record] = field(default_factory=list)
    evals: list[Record] = field(default_factory=list)
    skipped: list[Record] = field(default_factory=list)
    summary: Record = field(default_factory=dict)  # of the last start
    meshes: list[MeshPart] = field(default_factory=list)  # in step order; neighbours differ
    prediction: Record = field(default_factory=dict)  # the last: predicted against measured
    communication: Record = field(default_factory=dict)  # the last: what was sent since the last start
    starts: int = 0
    broken_lines: list[int] = field(default_factory=list)
    unknown_kinds: list[str] = field(default_factory=list)

    def column(self, key: str) -> list[float | None]:
        """A key of the train records; None where it is absent or not a finite number."""
        return [finite(record.get(key)) for record in self.train]

    @property
    def steps(self) -> list[int]:
        return [record["step"] for record in self.train]


def finite(value: Any) -> float | None:
    """The value as a number that can be drawn, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; empty for anything else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def parse_metrics(lines: Iterable[str]) -> Metrics:
    metrics = Metrics()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or "kind" not in record:
            metrics.broken_lines.append(number)
            continue
        _add(metrics, record, number)
    return metrics


def read_metrics(path: Path) -> Metrics:
    """Reads a file; OSError when it can't be read. A tail cut inside a UTF-8 character is a broken line like any other."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return parse_metrics(file)


def _add_start(metrics: Metrics, record: Record) -> None:
    mesh = record.get("mesh")
    if metrics.summary.get("mesh") != mesh:
        # Their ranks are not those of the summary.
        metrics.prediction, metrics.communication = {}, {}
    metrics.summary = record
    metrics.starts += 1
    if not isinstance(mesh, str):
        return
    begin = int(finite(record.get("first_step")) or 0)
    while metrics.meshes and metrics.meshes[-1].begin >= begin:
        metrics.meshes.pop()  # its steps are done again
    if not metrics.meshes or metrics.meshes[-1].mesh != mesh:
        metrics.meshes.append(MeshPart(mesh, finite(record.get("ranks")), begin))


def _add(metrics: Metrics, record: Record, number: int) -> None:
    kind = record["kind"]
    if kind == "summary":
        _add_start(metrics, record)
        return
    if kind == "prediction":
        metrics.prediction = record
        return
    if kind == "communication":
        metrics.communication = record
        return
    kinds = {"train": metrics.train, "eval": metrics.evals, "skipped": metrics.skipped}
    if kind not in kinds:
        if kind not in metrics.unknown_kinds:
            metrics.unknown_kinds.append(kind)
        return
    if not isinstance(record.get("step"), int):
        metrics.broken_lines.append(number)
        return
    step = record["step"]
    # After a restart from a checkpoint, what was logged from this step on happened in a run that is no more.
    stale = [metrics.train, metrics.evals, metrics.skipped] if kind != "eval" else [metrics.evals]
    for records in stale:
        while records and records[-1]["step"] >= step:
            records.pop()
    kinds[kind].append(record)
