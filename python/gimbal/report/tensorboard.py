"""Writes a run's scalars as TensorBoard event files, without TensorFlow or torch."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from gimbal.report.metrics import METRICS, finite
from gimbal.report.runs import Run, Stage, read_run

SUFFIX = ".gimbal"
GROUPS = {
    "loss": "train", "lr": "train", "grad_norm": "train", "epoch": "train",
    "samples": "step", "tokens": "step", "loss_tokens": "step", "vision_rows": "step",
    "tokens_per_second": "speed", "images_per_second": "speed", "flops_per_second": "speed", "peak_share": "speed",
    "step_seconds": "time", "data_wait_seconds": "time", "forward_seconds": "time", "backward_seconds": "time",
    "reduce_wait_seconds": "time", "optimizer_seconds": "time", "waste": "balance",
}


def scalars(stage: Stage) -> list[tuple[int, str, float]]:
    """(step, tag, value) of a stage. Numbers of a train record that no group names are under `other/`."""
    result = []
    for record in stage.metrics.train:
        for key, value in record.items():
            if key in ("kind", "step", "elapsed_seconds", "ranks") or (number := finite(value)) is None:
                continue
            result.append((record["step"], f"{GROUPS.get(key, 'other')}/{key}", number))
        for rank in record.get("ranks") or []:
            if (number := finite(rank.get("busy_seconds"))) is not None:
                result.append((record["step"], f"rank_busy_seconds/{rank['rank']}", number))
    for record in stage.metrics.evals:
        for key, value in record.items():
            if key not in ("kind", "step") and (number := finite(value)) is not None:
                result.append((record["step"], f"eval/{key}", number))
    return result


class Exporter:
    """Writes each stage to `out` (with several stages: `out/<stage>`). `update` adds what is new in the run; event files of
    an earlier export are removed first, so that no point is there twice."""

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        self._writers: dict[str, Any] = {}
        self._written: dict[str, set[tuple[int, str]]] = {}

    def update(self, run: Run) -> int:
        """Returns the number of points written."""
        return sum(self._update_stage(stage, len(run.planned_stages) > 1) for stage in run.stages)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _update_stage(self, stage: Stage, several: bool) -> int:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        writer = self._writer(stage, self.out / stage.name if several else self.out)
        written, new = self._written.setdefault(stage.name, set()), 0
        started = (stage.folder / METRICS).stat().st_mtime - _elapsed(stage, stage.last_step)
        for step, tag, value in scalars(stage):
            if (step, tag) in written:
                continue
            written.add((step, tag))
            when = started + _elapsed(stage, step)
            point = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(Event(wall_time=when, step=step, summary=point))
            new += 1
        writer.flush()
        return new

    def _writer(self, stage: Stage, folder: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if stage.name not in self._writers:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
                old.unlink()
            self._writers[stage.name] = EventFileWriter(str(folder), filename_suffix=SUFFIX)
        return self._writers[stage.name]


def _elapsed(stage: Stage, step: int) -> float:
    """Seconds since the start at the last logged step that is not after `step`."""
    times = stage.__dict__.setdefault("_elapsed_by_step", {})
    if not times:
        times.update({r["step"]: finite(r.get("elapsed_seconds")) or 0.0 for r in stage.metrics.train})
    return times.get(step, max((t for s, t in times.items() if s <= step), default=0.0))


def export(run: Run, out: str | Path) -> int:
    """Writes all points of the run and returns their number."""
    exporter = Exporter(out)
    try:
        return exporter.update(run)
    finally:
        exporter.close()


def follow(folder: str | Path, out: str | Path, every_seconds: float = 5.0) -> int:
    """Writes points as they come until the run is finished, or the process that started this one is gone (a trainer that was
    killed); returns their number."""
    exporter, total, parent = Exporter(out), 0, os.getppid()
    try:
        while True:
            # Looked at first, so that what was written before the end is still exported.
            orphaned = os.getppid() != parent
            run = read_run(folder)
            total += exporter.update(run)
            if run.finished or orphaned:
                return total
            time.sleep(every_seconds)
    finally:
        exporter.close()
