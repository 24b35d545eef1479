"""Reads a run folder: one stage, or a folder of stages listed in `stages.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.report.metrics import METRICS, Metrics, read_metrics
from gimbal.run_stages import stage_names


@dataclass
class Stage:
    """One training stage. `evaluation` and `final` are empty until the stage has ended. `step_offset`: steps of the
    stages before it."""

    name: str
    folder: Path
    metrics: Metrics
    evaluation: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    recipe: str = ""
    predictions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    step_offset: int = 0

    @property
    def last_step(self) -> int:
        return self.metrics.train[-1]["step"] if self.metrics.train else 0

    @property
    def finished(self) -> bool:
        return bool(self.final)


@dataclass
class Run:
    folder: Path
    stages: list[Stage]
    planned_stages: list[str]

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        return len(self.stages) == len(self.planned_stages) and all(stage.finished for stage in self.stages)


def read_run(folder: str | Path) -> Run:
    """Reads what is there of a run. Raises UserError when the folder is no run folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such run folder")
    if (folder / METRICS).is_file():
        stage = _read_stage(folder.resolve().name, folder)
        return Run(folder, [stage], [stage.name])
    names = stage_names(folder)
    stages: list[Stage] = []
    for name in names:
        if (folder / name / METRICS).is_file():
            stage = _read_stage(name, folder / name)
            stage.step_offset = stages[-1].step_offset + stages[-1].last_step if stages else 0
            stages.append(stage)
    if not stages:
        raise UserError(f"{folder}: not a run folder, or nothing has run yet (neither {METRICS} nor a stage with one)")
    return Run(folder, stages, names)


def _read_stage(name: str, folder: Path) -> Stage:
    try:
        metrics = read_metrics(folder / METRICS)
    except OSError as error:
        raise UserError(f"{folder / METRICS}: can't be read ({error.strerror})") from error
    stage = Stage(name, folder, metrics)
    stage.evaluation = _read_part(stage, "eval.json")
    stage.final = _read_part(stage, "summary.json")
    recipe = folder / "recipe.yaml"
    stage.recipe = recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else ""
    stage.predictions = _read_predictions(stage)
    if metrics.broken_lines:
        lines = ", ".join(map(str, metrics.broken_lines[:5])) + (", …" if len(metrics.broken_lines) > 5 else "")
        stage.notes.append(f"{METRICS}: {len(metrics.broken_lines)} unreadable line(s) left out (line {lines})")
    for kind in metrics.unknown_kinds:
        stage.notes.append(f"{METRICS}: records of kind '{kind}' are not shown")
    return stage


def _read_part(stage: Stage, name: str) -> dict[str, Any]:
    path = stage.folder / name
    if not path.is_file():
        return {}
    try:
        value = _read_json(path)
    except UserError as error:
        stage.notes.append(str(error))
        return {}
    if not isinstance(value, dict):
        stage.notes.append(f"{path}: expected a JSON object")
        return {}
    return value


def _read_predictions(stage: Stage) -> list[dict[str, Any]]:
    path = stage.folder / "predictions.jsonl"
    if not path.is_file():
        return []
    predictions, broken = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
            value["sample"], value["span"], value["reference"], value["predicted"]
        except (ValueError, KeyError, TypeError):
            broken += 1
            continue
        predictions.append(value)
    if broken:
        stage.notes.append(f"{path.name}: {broken} unreadable line(s) left out")
    return predictions


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: can't be read ({error})") from error
