"""The stages of a run folder."""

from __future__ import annotations

import json
from pathlib import Path

from gimbal import UserError

FILE = "stages.json"


def stage_names(run: Path) -> list[str]:
    """The names in `stages.json`; empty for a run without stages. Raises UserError for a file that cannot be used."""
    path = run / FILE
    if not path.is_file():
        return []
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); the next start of `gimbal train` writes it again") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: expected a list of the stages' names; the next start of `gimbal train` writes it again")
    return names
