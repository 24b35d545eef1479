"""The ladder as training runs: on a mesh of two processes, each rung is trained, and simulated with the packs that it
ran."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gimbal import arch
from gimbal.plan import Layout, Mesh, Packs, Pipeline, Planner, Search, StateBytes
from measured_data import Inputs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parallel"))
from training import Epochs, Recipe, Run, epochs_of, merged, on_mesh, profile, train

PROCESSES = 2
SAMPLES_PER_PACK = 4  # of a random one, and about the mean of the balanced ones
CAPS = (448, 16)  # text rows, tiles
PROFILE_CAPS = (640, 20)  # random packs know no caps
PACKS_PER_STEP = 8
MEMORY_SHARE = 0.5  # of what keeping everything takes above recomputing everything
PARTS = ("compute", "recompute", "communication", "bubble", "imbalance")


@dataclass
class Row:
    """One rung. Seconds are means over the same steps, which the prediction knows by their packs, and over the rounds."""

    name: str
    cut: tuple[int, ...]
    recomputed: tuple[float, ...]  # share of each stage's blocks
    steps: int
    samples_per_step: float
    measured_seconds: float  # per step
    predicted_seconds: float
    measured_peaks: list[float]  # bytes per rank
    predicted_peaks: list[float]
    # Predicted over measured - 1: the median over the rounds and the worst one, each beside the mean of the profiles around
    # the run; and the median beside the profile before it alone.
    error: float
    worst_error: float
    error_from_before: float
    shares: dict[str, float] = field(default_factory=dict)  # of the predicted step
    spread: float = 0  # largest over smallest mean step of the rounds
    measured_ratio: float = 0  # seconds per sample of rung 0 over this one's
    predicted_ratio: float = 0

    @property
    def peak_errors(self) -> list[float]:
        return [ours / theirs - 1 for ours, theirs in zip(self.predicted_peaks, self.measured_peaks, strict=True)]


@dataclass
class Rung:
    name: str
    recipe: Recipe
    layout: Layout


def base_recipe(inputs: Inputs, epochs: int) -> Recipe:
    return {
        "model": {"path": str(inputs.model), "init": "random"},
        "data": {"train": str(inputs.data)},
        "balance": {"text_cap": CAPS[0], "vision_cap": CAPS[1], "packs_per_step": PACKS_PER_STEP},
        "optimizer": {"schedule": "constant"},
        "train": {"threads": 1, "device": "cpu", "epochs": epochs},
        "checkpoint": {"export_hf": False},
        "log": {"every_steps": 1000},
    }


class Case:
    """One mesh of two processes with its rungs, which follow the first profile."""

    def __init__(self, name: str, mesh: Mesh, inputs: Inputs, profile_file: Path, folder: Path, epochs: int) -> None:
        self.name, self.mesh, self.folder = name, mesh, folder
        self.base = merged(base_recipe(inputs, epochs), on_mesh(pp=mesh.pp, dp_replicate=mesh.dp_replicate))
        self.model = arch.describe(inputs.model)
        self.inputs = inputs
        self.planner = self._planner(profile_file)
        self.reserved_bytes: float = json.loads(profile_file.read_text())["reserved_bytes"]
        self.pipeline = self._pipeline(self.planner)
        self.packs: Packs = self.planner.pack("gimbal", caps=CAPS, packs_per_step=PACKS_PER_STEP)
        self.rungs = self._rungs()
        self.runs: dict[str, list[Run]] = {rung.name: [] for rung in self.rungs}

    def _planner(self, profile_file: Path) -> Planner:
        # float32: blocks use the values that the optimizer updates.
        return Planner(
            self.model, text_rows=self.inputs.sizes[:, 0], vision_rows=self.inputs.sizes[:, 1], profile=profile_file,
            state=StateBytes(master=4, compute=0, gradient=4, moments=8), origin="bench/balance/lengths",
        )  # fmt: skip

    def _pipeline(self, planner: Planner) -> Pipeline:
        return planner.pipeline(self.mesh, micro_batches=PACKS_PER_STEP // self.mesh.data_parallel)

    def _search(self, memory_bytes: float | None = None, without: frozenset[str] = frozenset()) -> Search:
        axes = {axis: size for axis, size in vars(self.mesh).items() if axis != "ep"}
        return Search(
            devices=PROCESSES, axes=axes, schedule="1f1b", caps=CAPS, packs_per_step=PACKS_PER_STEP,
            memory_bytes=memory_bytes, without=without,
        )  # fmt: skip

    def _planned(self, name: str, search: Search) -> Rung:
        plan = self.planner.search(search).best
        file = self.folder / f"{self.name} {name}.plan.json".replace(" ", "_")
        plan.save(file)
        return Rung(name, self._without_mesh(merged(self.base, {"train": {"plan": str(file)}})), plan.layout)

    @staticmethod
    def _without_mesh(recipe: Recipe) -> Recipe:
        return {name: section for name, section in recipe.items() if name != "parallel"}

    def _rungs(self) -> list[Rung]:
        equal = self.pipeline.cut("layers", "full", self.packs.works)
        assert equal is not None, "everything recomputed always fits here"
        starts = [self.model.blocks[begin].name for begin in equal.stage_begin[1:-1]]
        full = merged(self.base, {"parallel": {"stage_starts": starts}, "model": {"recompute": "full"}})
        random = merged(full, {"balance": {"method": "random", "samples_per_pack": SAMPLES_PER_PACK}})
        rungs = [Rung("nothing balanced", random, equal), Rung("+ data", full, equal)]
        everything = equal
        if self.mesh.pp > 1:
            rungs.append(self._planned("+ model", self._search(without=frozenset({"recompute"}))))
            everything = rungs[-1].layout
        rungs.append(self._planned("+ memory", self._search(memory_bytes=self._memory_limit(everything))))
        return rungs

    def _memory_limit(self, everything: Layout) -> float:
        """Bytes of a device between those of recomputing everything and those of keeping everything, for full packs."""
        works = np.array([[CAPS[0], self.packs.works[:, 1].max(), self.packs.works[:, 2].max(), CAPS[1], 0.0]])
        nothing = self.pipeline.recompute(everything.stage_begin, "none", works)
        assert nothing is not None, "without a limit nothing has to be recomputed"
        least, most = (max(self.pipeline.stage_bytes(layout, works)) for layout in (everything, nothing))
        return least + MEMORY_SHARE * (most - least) + self.reserved_bytes

    def train(self, rung: Rung, round_number: int) -> None:
        print(f"  {self.name}, round {round_number + 1}: {rung.name}", file=sys.stderr, flush=True)
        folder = self.folder / f"{self.name} {rung.name} {round_number}".replace(" ", "_")
        self.runs[rung.name].append(train(rung.recipe, folder, PROCESSES))

    def rows(self, profiles: dict[str, list[tuple[Path, Path]]]) -> list[Row]:
        """`profiles`: of each rung, those before and behind each of its runs."""
        rows = [self._row(rung, profiles[rung.name]) for rung in self.rungs]
        for row in rows:
            row.measured_ratio = _per_sample(rows[0], "measured") / _per_sample(row, "measured")
            row.predicted_ratio = _per_sample(rows[0], "predicted") / _per_sample(row, "predicted")
        return rows

    def _row(self, rung: Rung, profiles: list[tuple[Path, Path]]) -> Row:
        runs = self.runs[rung.name]
        epochs = epochs_of(runs[0], rung.recipe)
        ranks = self.mesh.data_parallel
        whole = [i for i, step in enumerate(runs[0].steps) if _is_whole(epochs, step)]
        # The first epoch warms up: its steps are not timed, and the first one's peak does not count.
        timed = [i for i in whole if runs[0].steps[i]["epoch"] > 0]
        works = {i: epochs.works(runs[0].steps[i], ranks) for i in whole}
        timed_works = np.concatenate([works[i] for i in timed])
        simulated = [
            [self._pipeline(self._planner(file)).simulate(rung.layout, timed_works) for file in around]
            for around in profiles
        ]
        at_profiles = np.array([[each.seconds.mean() for each in around] for around in simulated])  # [rounds, 2]
        predicted = at_profiles.mean(axis=1)
        measured = np.array([run.column("step_seconds")[timed].mean() for run in runs])
        errors = predicted / measured - 1
        peaks = self.pipeline.simulate(rung.layout, np.concatenate([works[i] for i in whole if i > 0])).peak_bytes
        stages = zip(rung.layout.stage_begin, rung.layout.stage_begin[1:], strict=False)
        return Row(
            name=rung.name, cut=rung.layout.stage_begin,
            recomputed=tuple(_share_recomputed(rung.layout, begin, end) for begin, end in stages),
            steps=len(timed), samples_per_step=float(np.mean([runs[0].steps[i]["samples"] for i in timed])),
            measured_seconds=float(measured.mean()), predicted_seconds=float(predicted.mean()),
            measured_peaks=_measured_peaks(runs),
            predicted_peaks=[peaks[rank * self.mesh.pp // PROCESSES] for rank in range(PROCESSES)],
            error=float(np.median(errors)), worst_error=float(errors[np.abs(errors).argmax()]),
            error_from_before=float(np.median(at_profiles[:, 0] / measured)) - 1,
            shares={part: float(getattr(simulated[0][0], part).mean()) / float(at_profiles[0, 0]) for part in PARTS},
            spread=float(measured.max() / measured.min()),
        )  # fmt: skip


def _per_sample(row: Row, what: str) -> float:
    return getattr(row, f"{what}_seconds") / row.samples_per_step


def _share_recomputed(layout: Layout, begin: int, end: int) -> float:
    return round(sum(level != "keep" for level in layout.recompute[begin:end]) / (end - begin), 3)


def _is_whole(epochs: Epochs, step: dict) -> bool:
    """Whether the step has all its packs, as all but an epoch's last one have."""
    return (step["step_in_epoch"] + 1) * PACKS_PER_STEP <= len(epochs.packed(step["epoch"]))


def _measured_peaks(runs: list[Run]) -> npt.NDArray[np.float64] | list[float]:
    """Bytes of all tensors of each rank; the same packs need the same in every round, but for pictures read ahead."""
    peaks = np.array([[rank["total_peak_bytes"] for rank in run.prediction["ranks"]] for run in runs])
    return np.median(peaks, axis=0).tolist()


def profile_machine(inputs: Inputs, folder: Path, seconds: float) -> Path:
    """Profiles with as many processes as train."""
    caps = {"balance": {"text_cap": PROFILE_CAPS[0], "vision_cap": PROFILE_CAPS[1]}}
    return profile(merged(base_recipe(inputs, 1), caps), folder, PROCESSES, seconds)


def make_cases(inputs: Inputs, profile_file: Path, folder: Path, epochs: int) -> list[Case]:
    meshes = {"pp 2": Mesh(pp=2), "dp 2": Mesh(dp_replicate=2)}
    return [Case(name, mesh, inputs, profile_file, folder, epochs) for name, mesh in meshes.items()]
