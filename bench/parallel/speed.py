#!/usr/bin/env python3
"""Tokens per second of 2 processes x 1 thread on the digits demo's model and data, beside one process x 1 thread and
beside PyTorch's DistributedDataParallel with `transformers` on the same packs.

All train the same packs in the same steps. The speed of a machine that others use as well drifts: each run stands
between two of one process, and counts as a multiple of their mean; figures are medians over the rounds. `apart`: two
processes that know nothing of each other, which is what the machine can do. For each axis: the bytes that the
processes send each other in a step, what they take at the link speed that `gimbal profile` measures, and what is
missing to twice one process (with pp: to twice one process less the bubble of equal stages). Prints a table on stderr
and JSON on stdout; exits 1 when a limit is missed.

Limits: dp_replicate, dp_shard (keep and reshard) >= 90 % of twice one process; dp_replicate >= 1.2 x DDP, packed and
padded. Stop other programs first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from digits_case import PIPELINE_PACKS, make_base, pipeline_layout, planner_of, stage_starts
from training import Recipe, Run, bytes_per_step, epochs_of, merged, on_mesh, read_run, train, train_words

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "balance"))
from lengths_data import machine, verdict

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MIN_SHARE, MIN_OVER_DDP = 0.9, 1.2
# As `gimbal train` sets them for itself: prepared kernels and freed memory are kept.
KEEP = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8192",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
}


@dataclass
class Case:
    name: str
    processes: int
    change: Recipe
    base: str = "one"  # what it is compared with
    ideal: float = 2.0  # times the base
    least: float | None = None  # share of the ideal
    speeds: list[float] = field(default_factory=list)  # tokens/s, by run
    times: list[float] = field(default_factory=list)  # over the mean of the base's before and behind it, by round
    bytes_per_step: float = 0
    steps: list[float] = field(default_factory=list)  # seconds of one, by run

    @property
    def step_seconds(self) -> float:
        return statistics.median(self.steps)

    @property
    def is_base(self) -> bool:
        return self.name == self.base


def cases_of(stage_starts: list[str]) -> list[Case]:
    many = {"balance": {"packs_per_step": PIPELINE_PACKS}}
    pipeline = merged(on_mesh(pp=2), many, {"parallel": {"stage_starts": stage_starts}})
    one_filled = f"one, {PIPELINE_PACKS} packs"
    filled = 2 * PIPELINE_PACKS / (PIPELINE_PACKS + 1)
    return [
        Case("one", 1, {}, ideal=1),
        Case("dp_replicate 2", 2, on_mesh(dp_replicate=2), least=MIN_SHARE),
        Case("dp_shard 2, keep", 2, merged(on_mesh(dp_shard=2), {"parallel": {"weights": "keep"}}), least=MIN_SHARE),
        Case("dp_shard 2, reshard", 2, merged(on_mesh(dp_shard=2), {"parallel": {"weights": "reshard"}}), least=MIN_SHARE),
        Case("sp 2", 2, on_mesh(sp=2)),
        Case("tp 2", 2, on_mesh(tp=2)),
        Case(one_filled, 1, many, base=one_filled, ideal=1),
        Case("pp 2, 1F1B", 2, pipeline, base=one_filled, ideal=filled),
        Case("pp 2, ZB-H1", 2, merged(pipeline, {"parallel": {"schedule": "zb-h1"}}), base=one_filled, ideal=filled),
    ]


def run_apart(base: Recipe, folder: Path, warmup: int) -> float:
    """Sum of the tokens per second of two processes that train at the same time, each alone."""
    folder.mkdir()
    folders = [folder / f"apart {i}" for i in range(2)]
    with (folder / "log").open("w") as log:
        words = [[str(word) for word in train_words(base, each, 1)] for each in folders]
        processes = [subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) for command in words]
        if any([process.wait() for process in processes]):
            sys.exit(f"a run failed:\n{(folder / 'log').read_text()[-4000:]}")
    return sum(read_run(each).tokens_per_second(warmup) for each in folders)


def run_ddp(base: Recipe, packs: Path, how: str, warmup: int) -> float:
    words = [BIN / "torchrun", "--standalone", "--nproc-per-node", "2", Path(__file__).with_name("ddp_peer.py")]
    words += ["--model", base["model"]["path"], "--data", base["data"]["train"], "--packs", packs, "--how", how]
    words += ["--warmup", str(warmup)]
    variables = {**KEEP, **os.environ, "PYTHONPATH": str(REPOSITORY / "python"), "OMP_NUM_THREADS": "1"}
    out = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, env=variables, text=True).stdout
    figures = json.loads(out.strip().splitlines()[-1])
    return figures["tokens"] / figures["seconds"]


def write_packs(run: Run, recipe: Recipe, file: Path) -> Path:
    """The run's packs for the peer: [steps][ranks][samples]."""
    epochs = epochs_of(run, recipe)
    steps = [[micro_batches[0].tolist() for micro_batches in epochs.of_step(step, 2)] for step in run.steps]
    file.write_text(json.dumps(steps))
    return file


class Bench:
    """Runs the cases, and what else takes turns with them."""

    def __init__(self, base: Recipe, cases: list[Case], folder: Path, warmup: int) -> None:
        self.base, self.cases, self.folder, self.warmup = base, cases, folder, warmup
        self.others = {name: Case(name, 2, {}) for name in ("apart", "ddp packed", "ddp padded")}
        self._packs = folder / "packs.json"
        self._runs = 0

    def measure(self, rounds: int) -> None:
        for number in range(rounds):
            for base in [case for case in self.cases if case.is_base]:
                compared = [case for case in self.cases if case.base == base.name and not case.is_base]
                compared += self.others.values() if base is self.cases[0] else []
                before = self._speed(base, number)
                for case in compared:
                    speed = self._speed(case, number)
                    after = self._speed(base, number)
                    case.times.append(speed / ((before + after) / 2))
                    before = after

    def _speed(self, case: Case, number: int) -> float:
        print(f"  round {number + 1}: {case.name}", file=sys.stderr, flush=True)
        self._runs += 1
        folder = self.folder / f"{self._runs} {case.name}"
        if case.name == "apart":
            speed = run_apart(self.base, folder, self.warmup)
        elif case.name.startswith("ddp"):
            speed = run_ddp(self.base, self._packs, case.name.split()[1], self.warmup)
        else:
            speed = self._train(case, folder)
        case.speeds.append(speed)
        return speed

    def _train(self, case: Case, folder: Path) -> float:
        recipe = merged(self.base, case.change)
        run = train(recipe, folder, case.processes)
        case.bytes_per_step = bytes_per_step(run)
        case.steps.append(float(np.median(run.column("step_seconds")[self.warmup :])))
        if case.name == "dp_replicate 2" and not self._packs.exists():
            write_packs(run, recipe, self._packs)
        return run.tokens_per_second(self.warmup)


def figures(cases: list[Case], apart: Case, bandwidth: float) -> list[dict]:
    rows = []
    for case in cases:
        wire = case.bytes_per_step / bandwidth / 2  # both directions at the same time
        times = 1.0 if case.is_base else statistics.median(case.times)
        beside_apart = case.base == "one" and case.processes > 1
        rows.append({
            "case": case.name, "processes": case.processes, "tokens_per_second": statistics.median(case.speeds),
            "times_one": times, "ideal": case.ideal, "share_of_ideal": times / case.ideal, "least_share": case.least,
            "share_of_apart": times / statistics.median(apart.times) if beside_apart else None,
            "step_seconds": case.step_seconds, "bytes_per_step": case.bytes_per_step, "wire_share": wire / case.step_seconds,
            "rounds": case.times,
        })  # fmt: skip
    return rows


def table(rows: list[dict], others: dict[str, Case], over_ddp: dict[str, float], bandwidth: float) -> str:
    names = f"{'x one':>6} {'ideal':>6} {'share':>6} {'of apart':>8} {'MB a step':>9} {'on the wire':>11}   rounds"
    text = f"  {'':21} {'tokens/s':>9} {names}\n"
    for row in rows:
        apart = "-" if row["share_of_apart"] is None else f"{row['share_of_apart']:.1%}"
        text += (
            f"  {row['case']:21} {row['tokens_per_second']:9,.0f} {row['times_one']:5.2f}x {row['ideal']:5.2f}x "
            f"{row['share_of_ideal']:6.1%} {apart:>8} {row['bytes_per_step'] / 1e6:9.2f} {row['wire_share']:11.1%}   "
            + " ".join(f"{times:.2f}" for times in row["rounds"]) + "\n"
        )  # fmt: skip
    for name, case in others.items():
        beside = f"; dp_replicate 2 is {over_ddp[name]:.2f}x as fast" if name in over_ddp else ""
        speed, times = statistics.median(case.speeds), statistics.median(case.times)
        text += f"  {name:21} {speed:9,.0f} {times:5.2f}x{beside}\n"
    return text + f"  link between two processes: {bandwidth / 1e9:.2f} GB/s"


def judge(rows: list[dict], over_ddp: dict[str, float]) -> list[str]:
    missed = [
        f"{row['case']}: {row['share_of_ideal']:.1%} of twice one process, at least {row['least_share']:.0%}"
        for row in rows
        if row["least_share"] is not None and row["share_of_ideal"] < row["least_share"]
    ]
    return missed + [
        f"dp_replicate 2 over {name}: {value:.2f}x, at least {MIN_OVER_DDP}x"
        for name, value in over_ddp.items()
        if value < MIN_OVER_DDP
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--warmup", type=int, default=8, help="first steps, which do not count")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile-seconds", type=float, default=20)
    args = parser.parse_args()
    if args.warmup >= args.steps - 1:
        parser.error("--warmup: leave at least two --steps")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = make_base(folder / "demo", args.steps)
        planner, bandwidth = planner_of(base, folder / "profile", args.profile_seconds)
        cases = cases_of(stage_starts(planner, pipeline_layout(planner)))
        bench = Bench(base, cases, folder, args.warmup)
        bench.measure(args.rounds)
    rows = figures(cases, bench.others["apart"], bandwidth)
    replicate = next(row["times_one"] for row in rows if row["case"] == "dp_replicate 2")
    over_ddp = {
        name: replicate / statistics.median(case.times) for name, case in bench.others.items() if name != "apart"
    }
    print(table(rows, bench.others, over_ddp, bandwidth), file=sys.stderr)
    missed = judge(rows, over_ddp)
    others = {
        name: {"tokens_per_second": case.speeds, "times_one": case.times} for name, case in bench.others.items()
    }
    out = {
        "benchmark": "parallel_speed", "command": " ".join(["bench/parallel/speed.py", *sys.argv[1:]]), "machine": machine(),
        "cases": rows, "others": others, "over_ddp": over_ddp, "link_bytes_per_second": bandwidth, "missed": missed,
    }  # fmt: skip
    print(json.dumps(out, indent=1))
    return verdict(missed)


if __name__ == "__main__":
    sys.exit(main())
