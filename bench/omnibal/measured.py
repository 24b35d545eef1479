#!/usr/bin/env python3
"""OmniBal's ladder as real training on 2 processes x 1 thread: measured step times and peaks beside the simulator's.

A small InternVL with a heavy vision tower and random weights, on samples with the tiles and a quarter of the text of
AI2D, ChartQA and DocVQA. Rungs: random packs of equally many samples, cut by layers, everything recomputed; + data
(balanced packs); + model (cut by measured cost); + memory (recompute what the memory asks for, under a limit at which
keeping everything does not fit). With pp 2 (1F1B), and with dp 2 without the rung that cuts. `gimbal profile` measures
the blocks in two processes at the same time; the simulator gets the packs, cuts and levels of each run. Rungs take
turns in rounds; the steps of the first epoch do not count. The speed of a machine that others use as well drifts by
more than what is judged here: it is profiled again after each run, a run is predicted from the profiles before and
behind it, and its error is that of this prediction; the worst round and the error from the profile before it alone
stand beside. Plans follow the first profile. Prints tables on stderr and
JSON on stdout; exits 1 when a limit is missed.

Limits: predicted step time (median over the rounds) and peak of each rank within 10 % of the measured, for every
rung. Stop other programs first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from measured_case import CAPS, PACKS_PER_STEP, PROCESSES, SAMPLES_PER_PACK, Case, Row, make_cases, profile_machine
from measured_data import TEXT, VISION, make_inputs
from models import PUBLISHED_DAYS

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "balance"))
from lengths_data import machine, verdict

LIMIT = 0.10
PUBLISHED = "6B+20B"


def published_ratio(row: Row) -> float | None:
    """Of the same rung: the pipeline's ladder is the published one."""
    rungs = ("nothing balanced", "+ data", "+ model", "+ memory")
    days = PUBLISHED_DAYS[PUBLISHED]
    now = days[rungs.index(row.name)]
    return None if now is None or days[0] is None else days[0] / now


def table(case: Case, rows: list[Row]) -> str:
    text = (
        f"\n{case.name}: {PROCESSES} processes x 1 thread, {PACKS_PER_STEP} packs a step; caps {CAPS[0]} tokens, "
        f"{CAPS[1]} tiles, or {SAMPLES_PER_PACK} samples a random pack\n"
        f"  {'':17} {'steps':>5} {'samples':>7} {'measured':>9} {'predicted':>9} {'error':>7} {'worst':>7} {'before':>7} {'spread':>6}   ratio: "
        f"measured, simulated, published   peaks: MiB measured, predicted, error\n"
    )
    for row in rows:
        published = published_ratio(row) if case.mesh.pp > 1 else None
        peaks = "; ".join(
            f"{measured / 2**20:.1f}, {predicted / 2**20:.1f}, {error:+.1%}"
            for measured, predicted, error in zip(row.measured_peaks, row.predicted_peaks, row.peak_errors, strict=True)
        )
        text += (
            f"  {row.name:17} {row.steps:5} {row.samples_per_step:7.2f} {row.measured_seconds:8.3f}s "
            f"{row.predicted_seconds:8.3f}s {row.error:+7.1%} {row.worst_error:+7.1%} {row.error_from_before:+7.1%} {row.spread:6.3f}   {row.measured_ratio:15.2f}x "
            f"{row.predicted_ratio:9.2f}x {f'{published:.2f}x' if published else '-':>10}   {peaks}\n"
            f"  {'':17} cut {'-'.join(map(str, row.cut))}, recomputed "
            f"{' '.join(f'{share:.0%}' for share in row.recomputed)}; simulated: "
            + ", ".join(f"{part} {share:.1%}" for part, share in row.shares.items()) + "\n"
        )  # fmt: skip
    return text


def judge(case: Case, rows: list[Row]) -> list[str]:
    missed = []
    for row in rows:
        if abs(row.error) > LIMIT:
            missed.append(f"{case.name}, {row.name}: predicted step {row.error:+.1%} off the measured")
        for rank, error in enumerate(row.peak_errors):
            if abs(error) > LIMIT:
                missed.append(f"{case.name}, {row.name}: predicted peak of rank {rank} {error:+.1%} off the measured")
    return missed


def report(case: Case, rows: list[Row]) -> dict:
    ladder = [
        {**asdict(row), "peak_errors": row.peak_errors,
         "published_ratio": published_ratio(row) if case.mesh.pp > 1 else None}
        for row in rows
    ]  # fmt: skip
    return {"mesh": asdict(case.mesh), "ladder": ladder}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=264, help="of the length data")
    parser.add_argument("--epochs", type=int, default=3, help="the first one warms up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile-seconds", type=float, default=15, help="of each profile: one more than runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="new folder for the runs, which are removed otherwise")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("--epochs: at least 2, as the first one warms up")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        folder.mkdir(exist_ok=args.keep is None)
        inputs = make_inputs(folder, args.samples, args.seed)
        profiles = [profile_machine(inputs, folder / "profile_0", args.profile_seconds)]
        cases = make_cases(inputs, profiles[0], folder, args.epochs)
        around: dict[str, dict[str, list[tuple[Path, Path]]]] = {
            case.name: {rung.name: [] for rung in case.rungs} for case in cases
        }
        for number in range(args.rounds):
            for case in cases:
                for rung in case.rungs:
                    case.train(rung, number)
                    profiles.append(profile_machine(inputs, folder / f"profile_{len(profiles)}", args.profile_seconds))
                    around[case.name][rung.name].append((profiles[-2], profiles[-1]))
        results, missed = {}, []
        for case in cases:
            rows = case.rows(around[case.name])
            print(table(case, rows), file=sys.stderr)
            results[case.name] = report(case, rows)
            missed += judge(case, rows)
    tokens, tiles = inputs.sizes.mean(axis=0)
    out = {
        "benchmark": "omnibal_measured", "machine": machine(), "seconds": time.perf_counter() - started,
        "command": " ".join(["bench/omnibal/measured.py", *sys.argv[1:]]),
        "vision": asdict(VISION), "text": asdict(TEXT),
        "samples": args.samples, "mean_tokens": tokens, "mean_tiles": tiles, "caps": CAPS, "rounds": args.rounds,
        "cases": results, "missed": missed,
    }  # fmt: skip
    print(json.dumps(out, indent=1))
    return verdict(missed)


if __name__ == "__main__":
    sys.exit(main())
