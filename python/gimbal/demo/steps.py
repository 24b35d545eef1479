"""What the demos share: headings, commands, figures out of metrics.jsonl, and the last line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.generate.programs import find_program
from gimbal.report.metrics import METRICS, Metrics, finite, read_metrics


class Steps:
    """Prints numbered headings on stderr; stdout stays free for the result line."""

    def __init__(self, count: int) -> None:
        self._count, self._number, self._start = count, 0, time.monotonic()
        self._bold, self._plain = ("\033[1m", "\033[0m") if sys.stderr.isatty() else ("", "")

    def heading(self, text: str) -> None:
        self._number += 1
        since = time.monotonic() - self._start
        print(f"\n{self._bold}[{self._number}/{self._count}] {text}{self._plain}  ({since:.0f} s)", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        print(f"      {text}", file=sys.stderr, flush=True)


def gimbal(*arguments: str | Path) -> None:
    """Runs a gimbal command; what it prints goes to stderr. Raises UserError when it fails."""
    words = [find_program("gimbal"), *map(str, arguments)]
    print("      $ gimbal " + " ".join(words[1:]), file=sys.stderr, flush=True)
    code = subprocess.run(words, stdout=sys.stderr).returncode
    if code:
        raise UserError(f"`gimbal {' '.join(words[1:])}` ended with exit code {code}; its message is above")


def fresh_run(folder: Path) -> Path:
    """Removes what an earlier demo left, so that the run starts at step 0."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def train_seconds(metrics: Metrics) -> float:
    """Seconds from the start of training to the end of its last step."""
    seconds = finite(metrics.train[-1].get("elapsed_seconds")) if metrics.train else None
    if seconds is None:
        raise UserError(f"the run has no training step in its {METRICS}")
    return seconds


def tokens_per_second(metrics: Metrics, skip: int = 0) -> float:
    """Real text tokens over the seconds of the steps, without the first `skip` logged ones."""
    records = metrics.train[skip:]
    seconds = sum(record["step_seconds"] for record in records)
    if not records or seconds <= 0:
        raise UserError(f"the run has only {len(metrics.train)} logged steps; {skip + 1} are needed")
    return sum(record["tokens"] for record in records) / seconds


def metrics_of(run: Path) -> Metrics:
    return read_metrics(run / METRICS)


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def compare_batching(recipe: Path, runs: Path, nproc: int, steps: int, samples_per_pack: int, overrides: list[str]) -> float:
    """Real tokens/s of balanced packs over those of random groups with as many samples, both measured in short runs."""
    speeds: dict[str, list[float]] = {"random": [], "gimbal": []}
    # Alternating, so that a change of the machine's speed touches both.
    for turn in ("random", "gimbal", "gimbal", "random"):
        run = fresh_run(runs / f"batching_{turn}")
        extra = [f"balance.samples_per_pack={samples_per_pack}"] if turn == "random" else []
        gimbal(
            "train", recipe, "--nproc", str(nproc), *overrides, f"balance.method={turn}", *extra, f"train.run={run}",
            f"train.max_steps={steps}", "data.eval=", "checkpoint.export_hf=false", "log.every_steps=1", "train.resume=false",
        )  # fmt: skip
        speeds[turn].append(tokens_per_second(metrics_of(run), skip=3))
    return sum(speeds["gimbal"]) / sum(speeds["random"])


def result_line(**values: Any) -> None:
    """The last line on stdout."""
    rounded = {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in values.items()}
    sys.stderr.flush()
    print(json.dumps(rounded), flush=True)
