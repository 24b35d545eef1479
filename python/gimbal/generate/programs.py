"""Finds the compiled programs and model folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gimbal import UserError
from gimbal.run_stages import stage_names


def find_program(name: str) -> str:
    """The path of `gimbal` or `gimbal-run`: in $GIMBAL_BIN, beside this Python, or on the PATH."""
    folders = [os.environ["GIMBAL_BIN"]] if os.environ.get("GIMBAL_BIN") else [os.path.dirname(sys.executable)]
    for folder in folders:
        path = Path(folder) / name
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    found = shutil.which(name) if not os.environ.get("GIMBAL_BIN") else None
    if found is None:
        raise UserError(f"{name} was not found in {folders[0]}; run `make build`, or set GIMBAL_BIN to the folder that has it")
    return found


def _candidates(path: Path) -> Iterator[Path]:
    yield path
    yield path / "hf"
    # Not before: who has a model folder needs no list of stages, which may be broken.
    yield from (path / name / "hf" for name in reversed(stage_names(path)))


def model_folder(path: str | Path, scratch: Path | None = None) -> Path:
    """A model folder itself, or the exported one of a run folder (of its last stage that has one). A run that has only checkpoints
    so far has its newest one exported into `scratch`."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"--model {path}: no such folder")
    for candidate in _candidates(path):
        if (candidate / "config.json").is_file():
            return candidate
    if scratch is not None and (any(path.glob("checkpoints/step-*")) or any(path.glob("*/checkpoints/step-*"))):
        out = scratch / "model"
        words = [find_program("gimbal-run"), "export", str(path), "--out", str(out)]
        if subprocess.run(words, stdout=subprocess.DEVNULL).returncode:
            raise UserError(f"--model {path}: its newest checkpoint could not be exported; the reason is above")
        return out
    raise UserError(
        f"--model {path}: neither a model folder (config.json) nor a run folder with an exported model (hf/config.json) or a checkpoint"
    )
