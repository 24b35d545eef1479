"""The line `communication` of metrics.jsonl: what a rank has sent and waited for, by axis and kind of call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gimbal.report.metrics import dicts, finite


@dataclass(frozen=True)
class Row:
    """Mean of the ranks over the steps of a run; `step_bytes` of one step."""

    axis: str
    call: str
    calls: float
    bytes: float
    step_bytes: float
    wait_seconds: float


def communication_rows(record: dict[str, Any]) -> list[Row]:
    """Nothing for a run of one process, which has no such line."""
    steps = finite(record.get("steps")) or 1
    rows = []
    for entry in dicts(record.get("mean")):
        calls, size, seconds = (finite(entry.get(key)) or 0.0 for key in ("calls", "bytes", "wait_seconds"))
        rows.append(Row(str(entry.get("axis")), str(entry.get("call")), calls, size, size / steps, seconds))
    return rows
