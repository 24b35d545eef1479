"""Run folders: which checkpoints they hold."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gimbal.inspect.checkpoint import read_checkpoint, to_value

_UNUSED = re.compile(r"\.unused(-\d+)?$")


def is_run(folder: Path) -> bool:
    return (folder / "checkpoints").is_dir() or (folder / "stages.json").is_file()


def _stage_folders(run: Path) -> list[Path]:
    """The run itself, or its stages that have begun."""
    if not (run / "stages.json").is_file():
        return [run]
    names = json.loads((run / "stages.json").read_text(encoding="utf-8"))
    return [run / name for name in names if (run / name / "checkpoints").is_dir()]


def inspect_run(run: Path, verify: bool) -> dict[str, Any]:
    """All checkpoints of all stages, with the newest good one in full, as a JSON-ready value."""
    rows, unfinished, unused = [], [], []
    newest = None
    for stage in _stage_folders(run):
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
        "newest": newest,
    }


def format_run(value: dict[str, Any]) -> list[str]:
    """Lines of text: a line per checkpoint, and what is wrong with it."""
    lines = [f"{value['run']}: {len(value['checkpoints'])} checkpoints"]
    for row in value["checkpoints"]:
        lines.append(f"  {row['name']}  {row['bytes']:,} bytes  " + (f"({row['mesh'] or 'one rank'})" if row["ok"] else "DAMAGED or incomplete"))
        lines += [f"    {problem}" for problem in row["problems"]]
    lines += [f"  {name}  unfinished: being saved, or left by a killed run" for name in value["unfinished"]]
    lines += [f"  {name}  unused: a run could not go on from it and went back past it" for name in value["unused"]]
    return lines
