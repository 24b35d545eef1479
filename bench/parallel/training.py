"""What the benches of parallel training share: running `gimbal train` and `gimbal profile`, reading what they measured,
and working out which samples a run has trained on in which micro-batch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gimbal import arch
from gimbal.balance import PackedEpoch, pack
from gimbal.dataset import Dataset
from gimbal.generate.programs import find_program

AXES = ("pp", "dp_replicate", "dp_shard", "sp", "tp")
Recipe = dict[str, Any]


@dataclass
class Run:
    """What a finished run has left in metrics.jsonl."""

    folder: Path
    summary: dict[str, Any]
    steps: list[dict[str, Any]]
    prediction: dict[str, Any]
    communication: dict[str, Any]  # of several processes

    def column(self, key: str) -> npt.NDArray[np.float64]:
        return np.array([step[key] for step in self.steps], dtype=np.float64)

    def tokens_per_second(self, skip: int) -> float:
        return float(self.column("tokens")[skip:].sum() / self.column("step_seconds")[skip:].sum())


def merged(base: Mapping[str, Any], *others: Mapping[str, Any]) -> Recipe:
    """The recipe with the sections of `others` put over its own, key by key."""
    result = {name: dict(section) if isinstance(section, Mapping) else section for name, section in base.items()}
    for other in others:
        for name, section in other.items():
            result[name] = {**result.get(name, {}), **section} if isinstance(section, Mapping) else section
    return result


def on_mesh(**axes: int) -> Recipe:
    """The section `parallel` with the named axes and all others 1."""
    unknown = axes.keys() - set(AXES)
    if unknown:
        raise ValueError(f"no axis is called {', '.join(unknown)}")
    return {"parallel": {axis: axes.get(axis, 1) for axis in AXES}}


def call(words: list[str | Path], log: Path) -> None:
    """Runs a command; what it prints goes to `log`, whose end is shown when it fails."""
    with log.open("w") as out:
        ended = subprocess.run([str(word) for word in words], stdout=out, stderr=subprocess.STDOUT)
    if ended.returncode:
        sys.exit(f"{' '.join(map(str, words))}\nended with exit code {ended.returncode}:\n{log.read_text()[-4000:]}")


def train_words(recipe: Recipe, folder: Path, processes: int) -> list[str | Path]:
    """Writes the recipe into the new folder `folder`; the command that runs it."""
    folder.mkdir(parents=True)
    file = folder / "recipe.yaml"
    # YAML holds JSON.
    file.write_text(json.dumps(merged(recipe, {"train": {"run": str(folder / "run")}}), indent=1))
    words: list[str | Path] = [find_program("gimbal"), "train", file]
    return words + (["--nproc", str(processes)] if processes > 1 else [])


def read_run(folder: Path) -> Run:
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    kinds = ("summary", "train", "prediction", "communication")
    of_kind = {kind: [line for line in lines if line["kind"] == kind] for kind in kinds}
    communication = of_kind["communication"][-1] if of_kind["communication"] else {"ranks": [], "steps": 1}
    return Run(folder / "run", of_kind["summary"][0], of_kind["train"], of_kind["prediction"][-1], communication)


def train(recipe: Recipe, folder: Path, processes: int) -> Run:
    """Trains in `folder`, which must not exist, with processes on this machine."""
    words = train_words(recipe, folder, processes)
    call(words, folder / "log")
    return read_run(folder)


def profile(recipe: Recipe, folder: Path, processes: int, seconds: float) -> Path:
    """The file of `gimbal profile` for the recipe: all processes measure at the same time, as they will train."""
    folder.mkdir(parents=True)
    recipe_file, out = folder / "recipe.yaml", folder / "profile.json"
    recipe_file.write_text(json.dumps(merged(recipe, {"train": {"run": str(folder / "unused")}})))
    words: list[str | Path] = [find_program("gimbal"), "profile", recipe_file, "--out", out, "--seconds", str(seconds)]
    call(words + (["--nproc", str(processes)] if processes > 1 else []), folder / "log")
    return out


def stream_costs(model: arch.Model) -> list[tuple[float, float]]:
    """Forward FLOPs of a row and of a pair of the text and the vision stream: what the trainer makes packs alike by."""
    kinds = ({"text_embed", "text_layer", "text_norm"}, {"vision_embed", "vision_layer", "projector"})
    costs = []
    for of_stream in kinds:
        parts = [part for block in model.blocks if block.kind in of_stream for part in block.parts]
        per_row = sum(part.product_flops_per_row + part.attention_flops_per_row for part in parts)
        costs.append((per_row, sum(part.attention_flops_per_pair for part in parts)))
    return costs


@dataclass
class Epochs:
    """Which samples a run packs together: the trainer's own order, worked out again from its recipe."""

    dataset: Dataset
    recipe: Recipe
    costs: list[tuple[float, float]]
    patterns: Path  # of the run

    def __post_init__(self) -> None:
        index = self.dataset.index
        self.sizes = np.stack([index["num_tokens"], index["vision_rows"]], axis=1).astype(np.uint32)
        self._packed: dict[int, PackedEpoch] = {}

    def packed(self, epoch: int) -> PackedEpoch:
        if epoch not in self._packed:
            balance = self.recipe["balance"]
            method = balance.get("method", "gimbal")
            self._packed[epoch] = pack(
                self.sizes, [balance.get("text_cap", 4096), balance.get("vision_cap", 0)], costs=self.costs, method=method,
                seed=self.recipe["train"].get("seed", 0), epoch=epoch, ranks=balance["packs_per_step"],
                samples_per_pack=balance.get("samples_per_pack", 0), names=["tokens", "vision rows"],
                patterns=self.patterns if method == "gimbal" else None,
            )  # fmt: skip
        return self._packed[epoch]

    def of_step(self, step: Mapping[str, Any], data_ranks: int) -> list[list[npt.NDArray[np.uint32]]]:
        """[data ranks][micro-batches] of a step of metrics.jsonl, checked against what the trainer says it ran."""
        packed = self.packed(step["epoch"])
        packs = [packed.for_rank(step["step_in_epoch"], rank, data_ranks) for rank in range(data_ranks)]
        samples = np.concatenate([micro_batch for of_rank in packs for micro_batch in of_rank])
        rows = self.sizes[samples].sum(axis=0)
        if (int(rows[0]), int(rows[1]), len(samples)) != (step["tokens"], step["vision_rows"], step["samples"]):
            raise AssertionError(f"step {step['step']}: these are not the packs that the trainer has run")
        return packs

    def work(self, samples: npt.NDArray[np.uint32]) -> tuple[float, ...]:
        """Columns gimbal.plan.WORK_COLUMNS of one micro-batch."""
        tokens = self.sizes[samples, 0].astype(np.float64)
        loss = float(self.dataset.index["num_loss_tokens"][samples].sum())
        return float(tokens.sum()), float((tokens**2).sum()), loss, float(self.sizes[samples, 1].sum()), 0.0

    def works(self, step: Mapping[str, Any], data_ranks: int) -> npt.NDArray[np.float64]:
        """[micro-batches of all data ranks, 5] in the order of gimbal.plan.Pipeline: data ranks side by side."""
        packs = self.of_step(step, data_ranks)
        return np.array([self.work(samples) for slot in zip(*packs, strict=True) for samples in slot])


def epochs_of(run: Run, recipe: Recipe) -> Epochs:
    model = arch.describe(Path(recipe["model"]["path"]))
    return Epochs(Dataset(recipe["data"]["train"]), recipe, stream_costs(model), run.folder / "patterns.json")


def bytes_per_step(run: Run) -> float:
    """What the processes of a run send each other in a step, as they count it themselves."""
    received = [total for of_rank in run.communication["ranks"] for total in of_rank if total["call"] != "send"]
    return sum(total["bytes"] for total in received) / run.communication["steps"]
