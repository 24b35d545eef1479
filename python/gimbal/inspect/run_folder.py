"""Run folders: which checkpoints they hold, and what the ranks of the run sent each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gimbal.inspect.checkpoint import read_checkpoint, to_value
from gimbal.inspect.checkpoint_text import format_columns
from gimbal.report.communication import communication_rows
from gimbal.report.metrics import METRICS, finite
from gimbal.run_stages import stage_names

_UNUSED = re.compile(r"\.unused(-\d+)?$")


def is_run(folder: Path) -> bool:
    return (folder / "checkpoints").is_dir() or (folder / "stages.json").is_file()


def _stage_folders(run: Path) -> list[Path]:
    """The run itself, or its stages that have begun."""
    if not (run / "stages.json").is_file():
        return [run]
    return [run / name for name in stage_names(run) if (run / name / "checkpoints").is_dir()]


def _last_communication(stages: list[Path]) -> dict[str, Any] | None:
    """The newest line of metrics.jsonl that sums up what was sent; none while a run has not stopped, and for one process."""
    for path in (stage / METRICS for stage in reversed(stages)):
        last = None
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", errors="replace") as file:
            # Lines of steps, of which there may be very many, are not parsed.
            for line in (line for line in file if '"communication"' in line):
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # a killed run may have left half a line
                if isinstance(record, dict) and record.get("kind") == "communication":
                    last = record
        if last is not None:
            return last
    return None


def inspect_run(run: Path, verify: bool) -> dict[str, Any]:
    """All checkpoints of all stages, with the newest good one in full, as a JSON-ready value."""
    rows, unfinished, unused = [], [], []
    newest = None
    stages = _stage_folders(run)
    for stage in stages:
        for folder in sorted((stage / "checkpoints").glob("step-*"), key=lambda path: (len(path.name), path.name)):
            if _UNUSED.search(folder.name):
                unused.append(str(folder.relative_to(run)))
                continue
            if not folder.name.removeprefix("step-").isdigit():
                unfinished.append(str(folder.relative_to(run)))
                continue
            value = to_value(read_checkpoint(folder, verify))
            keys = ("ok", "problems", "step", "mesh")
            rows.append({"name": str(folder.relative_to(run)), **{key: value[key] for key in keys}, "bytes": sum(value["files"].values())})
            newest = value if value["ok"] else newest
    return {
        "run": str(run),
        "ok": all(row["ok"] for row in rows),
        "checkpoints": rows,
        "unfinished": unfinished,
        "unused": unused,
        "communication": _last_communication(stages),
        "newest": newest,
    }


def format_run(value: dict[str, Any]) -> list[str]:
    """Lines of text: a line per checkpoint, and what is wrong with it."""
    count = len(value["checkpoints"])
    lines = [f"{value['run']}: {count} checkpoint" + ("" if count == 1 else "s")]
    for row in value["checkpoints"]:
        lines.append(f"  {row['name']}  {row['bytes']:,} bytes  " + (f"({row['mesh'] or 'one rank'})" if row["ok"] else "DAMAGED or incomplete"))
        lines += [f"    {problem}" for problem in row["problems"]]
    lines += [f"  {name}  unfinished: being saved, or left by a killed run" for name in value["unfinished"]]
    lines += [f"  {name}  unused: a run could not go on from it and went back past it" for name in value["unused"]]
    return lines


def format_communication(record: dict[str, Any] | None) -> list[str]:
    """A table for what `inspect_run` has under "communication"."""
    if not record:
        return []
    rows = [("axis", "call", "calls", "MiB", "MiB a step", "seconds waited")]
    for row in communication_rows(record):
        sizes = (f"{size / (1 << 20):,.3f}" for size in (row.bytes, row.step_bytes))
        rows.append((row.axis, row.call, f"{row.calls:,.0f}", *sizes, f"{row.wait_seconds:,.3f}"))
    steps = finite(record.get("steps")) or 0
    title = f"communication of {steps:,.0f} step" + ("" if steps == 1 else "s") + ", mean of the ranks:"
    return [title, *format_columns(rows, left=2)]
