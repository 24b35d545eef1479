#!/usr/bin/env python3
"""Bytes per rank of parallel training on the digits demo, measured, beside what they should be and what the simulator
predicts.

Measured by the trainer (`ranks` of the line `prediction` in metrics.jsonl): the bytes of parameters, gradients and
optimizer state, what all tensors hold between steps, and their peak without the first step. Predicted: the peak that
the simulator, and with it `gimbal plan`, gives for the packs of these steps. Prints a table on stderr and JSON on
stdout; exits 1 when a limit is missed.

The trainer's own prediction of what a step holds beside its state (`activation_peak_bytes`) is held against the measured
one as well.

Limits: with dp_shard 2 parameters, gradients and optimizer state of a rank are half of those with dp_shard 1 within 3
%, and so is what is held between steps when weights are resharded; a stage of pp 2 holds the parameters of its own
blocks (and a tied head's copy of the embedding) within 1 %; every peak within 10 % of both predictions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gimbal.plan import Layout, Mesh, Planner, Schedule

for neighbour in ("parallel", "balance"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / neighbour))
from digits_case import CAPS, PACKS, PIPELINE_PACKS, make_base, pipeline_layout, planner_of, stage_starts
from lengths_data import machine, verdict
from training import Recipe, epochs_of, merged, on_mesh, train

HALF, STAGE, PEAK = 0.03, 0.01, 0.10
VALUE_BYTES = 4  # float32


@dataclass
class Case:
    name: str
    mesh: Mesh
    packs_per_step: int = PACKS
    weights: str = "keep"
    schedule: Schedule = "1f1b"
    level: str = "keep"
    stages_per_rank: int = 1
    freeze: tuple[str, ...] = ()
    ranks: list[dict[str, Any]] = field(default_factory=list)  # measured
    predicted_peaks: list[float] = field(default_factory=list)  # per rank

    @property
    def state_bytes(self) -> list[float]:
        return [sum(rank["state_bytes"].values()) for rank in self.ranks]

    @property
    def peak_errors(self) -> list[float]:
        return [
            predicted / rank["total_peak_bytes"] - 1 for predicted, rank in zip(self.predicted_peaks, self.ranks, strict=True)
        ]

    @property
    def activation_errors(self) -> list[float]:
        """Of the trainer's prediction."""
        peaks = [rank["activation_peak_bytes"] for rank in self.ranks]
        return [peak["predicted"] / peak["measured"] - 1 for peak in peaks]

    @property
    def num_stages(self) -> int:
        return self.mesh.pp * self.stages_per_rank

    def recipe(self, base: Recipe, starts: list[str]) -> Recipe:
        axes = {axis: size for axis, size in vars(self.mesh).items() if axis != "ep"}
        parallel = {
            "weights": self.weights, "schedule": self.schedule, "stages_per_rank": self.stages_per_rank, "stage_starts": starts
        }  # fmt: skip
        return merged(
            base, on_mesh(**axes), {"parallel": parallel, "balance": {"packs_per_step": self.packs_per_step}},
            {"model": {"recompute": self.level, "freeze": list(self.freeze)}, "data": {"prefetch_packs": 1}},
        )  # fmt: skip


CASES = [
    Case("one process", Mesh()),
    Case("dp_replicate 2", Mesh(dp_replicate=2)),
    Case("dp_shard 2, keep", Mesh(dp_shard=2)),
    Case("dp_shard 2, keep, 4 each", Mesh(dp_shard=2), PIPELINE_PACKS),
    Case("dp_shard 2, reshard", Mesh(dp_shard=2), weights="reshard"),
    Case("reshard, full, frozen", Mesh(dp_shard=2), PACKS, weights="reshard", level="full", freeze=("vision.*",)),
    Case("sp 2", Mesh(sp=2)),
    Case("tp 2", Mesh(tp=2)),
    Case("pp 2, 1F1B", Mesh(pp=2), PIPELINE_PACKS),
    Case("pp 2, 1F1B, recompute", Mesh(pp=2), PIPELINE_PACKS, level="full"),
    Case("pp 2, GPipe", Mesh(pp=2), PIPELINE_PACKS, schedule="gpipe"),
    Case("pp 2, ZB-H1", Mesh(pp=2), PIPELINE_PACKS, schedule="zb-h1"),
    Case("pp 2 x 2, interleaved", Mesh(pp=2), PIPELINE_PACKS, schedule="interleaved", stages_per_rank=2),
]


def layout_of(planner: Planner, case: Case, cut: Layout) -> Layout:
    blocks = planner.model.blocks
    levels = tuple(case.level if case.level in block.recompute_levels else "keep" for block in blocks)
    return Layout(cut.stage_begin, levels)


def cut_of(planner: Planner, case: Case) -> Layout:
    """The stages of the case, by measured cost."""
    blocks = planner.model.blocks
    if case.num_stages == 1:
        return Layout((0, len(blocks)), ("keep",) * len(blocks))
    if case.stages_per_rank == 1:
        return pipeline_layout(planner)
    packs = planner.pack("gimbal", caps=CAPS, packs_per_step=case.packs_per_step)
    pipeline = planner.pipeline(
        case.mesh, micro_batches=case.packs_per_step, schedule=case.schedule, stages_per_rank=case.stages_per_rank
    )
    cut = pipeline.cut("gimbal", "none", packs.works)
    assert cut is not None, "the demo's model fits every machine"
    return cut


def measure(case: Case, base: Recipe, planner: Planner, folder: Path) -> None:
    """Trains, and simulates the packs of the steps that the measured peaks are of: all but the first."""
    cut = cut_of(planner, case)
    recipe = case.recipe(base, stage_starts(planner, cut))
    run = train(recipe, folder, case.mesh.devices)
    case.ranks = run.prediction["ranks"]
    data_ranks = case.mesh.data_parallel
    epochs = epochs_of(run, recipe)
    works = np.concatenate([epochs.works(step, data_ranks) for step in run.steps[1:]])
    pipeline = planner.pipeline(
        case.mesh, micro_batches=case.packs_per_step // data_ranks, schedule=case.schedule,
        stages_per_rank=case.stages_per_rank, reshard=case.weights == "reshard",
    )  # fmt: skip
    peaks = pipeline.simulate(layout_of(planner, case, cut), works).peak_bytes
    case.predicted_peaks = [peaks[rank["pp"]] for rank in case.ranks]


def stage_parameters(planner: Planner, cut: Layout) -> list[int]:
    """Bytes of the parameters that each stage of a pipeline needs."""
    blocks = planner.model.blocks
    stages = [range(begin, end) for begin, end in zip(cut.stage_begin, cut.stage_begin[1:], strict=False)]
    values = [sum(blocks[i].num_parameters for i in stage) for stage in stages]
    embedding = next(i for i, block in enumerate(blocks) if block.kind == "text_embed")
    if planner.model.tied_embeddings and embedding not in stages[-1]:
        values[-1] += blocks[embedding].num_parameters
    return [VALUE_BYTES * count for count in values]


def judge(cases: dict[str, Case], needed: list[int]) -> list[str]:
    missed = []
    whole = cases["dp_replicate 2"]
    for name in ("dp_shard 2, keep", "dp_shard 2, reshard"):
        for rank, (ours, theirs) in enumerate(zip(cases[name].state_bytes, whole.state_bytes, strict=True)):
            if abs(2 * ours / theirs - 1) > HALF:
                missed.append(f"{name}: rank {rank} has {ours / theirs:.1%} of its state with dp_shard 1")
    for rank, (ours, theirs) in enumerate(zip(cases["dp_shard 2, reshard"].ranks, whole.ranks, strict=True)):
        share = ours["held_bytes"] / theirs["held_bytes"]
        if abs(2 * share - 1) > HALF:
            missed.append(f"dp_shard 2, reshard: between steps rank {rank} holds {share:.1%} of dp_shard 1's bytes")
    for case in cases.values():
        for rank, error in zip(case.ranks, case.peak_errors, strict=True):
            if abs(error) > PEAK:
                missed.append(f"{case.name}: predicted peak of rank {rank['rank']} {error:+.1%} off the measured one")
        for rank, error in zip(case.ranks, case.activation_errors, strict=True):
            if abs(error) > PEAK:
                missed.append(f"{case.name}: the trainer's prediction of rank {rank['rank']} {error:+.1%} off its measurement")
        if case.mesh.pp == 1 or case.stages_per_rank > 1:
            continue
        for rank in case.ranks:
            ours, theirs = rank["state_bytes"]["parameters"], needed[rank["pp"]]
            if abs(ours / theirs - 1) > STAGE:
                missed.append(f"{case.name}: rank {rank['rank']} has {ours:,} bytes of parameters, its blocks {theirs:,}")
    return missed


def table(cases: list[Case], needed: list[int]) -> str:
    names = f"{'parameters':>10} {'gradients':>9} {'optimizer':>9} {'held':>7} {'peak':>7} {'predicted':>9} error; trainer's"
    text = f"  MiB per rank{'':13} {names}\n"
    for case in cases:
        rows = zip(case.ranks, case.predicted_peaks, case.peak_errors, case.activation_errors, strict=True)
        for rank, peak, error, own_error in rows:
            state = [rank["state_bytes"][part] / 2**20 for part in ("parameters", "gradients", "optimizer")]
            text += (
                f"  {case.name if rank['rank'] == 0 else '':24} {state[0]:10.2f} {state[1]:9.2f} {state[2]:9.2f} "
                f"{rank['held_bytes'] / 2**20:7.2f} {rank['total_peak_bytes'] / 2**20:7.2f} {peak / 2**20:9.2f} "
                f"{error:+.1%}; {own_error:+.1%}\n"
            )
    return text + f"  parameters of the stages of pp 2: {', '.join(f'{bytes / 2**20:.2f}' for bytes in needed)} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="at least 3")
    parser.add_argument("--profile-seconds", type=float, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "demo", max(args.steps, 3))
        planners: dict[tuple[str, ...], Planner] = {}
        for case in CASES:
            print(f"  {case.name}", file=sys.stderr, flush=True)
            if case.freeze not in planners:
                planners[case.freeze], _ = planner_of(base, folder / "profile", args.profile_seconds, case.freeze)
            measure(case, base, planners[case.freeze], folder / case.name)
    planner = planners[()]
    cut = pipeline_layout(planner)
    needed = stage_parameters(planner, cut)
    print(table(CASES, needed), file=sys.stderr)
    missed = judge({case.name: case for case in CASES}, needed)
    rows = [
        {"case": case.name, "mesh": vars(case.mesh), "ranks": case.ranks, "predicted_peaks": case.predicted_peaks,
         "peak_errors": case.peak_errors, "activation_errors": case.activation_errors}
        for case in CASES
    ]  # fmt: skip
    out = {
        "benchmark": "parallel_memory", "command": " ".join(["bench/memory/parallel.py", *sys.argv[1:]]),
        "machine": machine(), "cut": cut.stage_begin, "stage_parameter_bytes": needed, "cases": rows, "missed": missed,
    }  # fmt: skip
    print(json.dumps(out, indent=1))
    return verdict(missed)


if __name__ == "__main__":
    sys.exit(main())
