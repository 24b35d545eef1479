#!/usr/bin/env python3
"""Seconds and memory of packing and arranging an epoch, beside a straightforward Python ISF (50 rounds) timed in the
same run. The data is repeated with jitter to 1.2 and 10 million samples; everything runs on one core. Prints a table on
stderr and JSON on stdout; exits 1 when a limit is missed.

Limits: 1.2 M samples <= 1.0 s with patterns at hand and <= 10 s with patterns solved anew; 10 M <= 12 s; 10 times (caps
16, 5376) and 50 times (caps 9, 4096) as fast as the Python ISF; at most 64 bytes per sample above the input.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from lengths_data import balance, enlarge, machine, read_all, verdict, write_csv

SMALL, LARGE = 1_200_000, 10_000_000
MAX_SECONDS = {SMALL: 1.0, LARGE: 12.0}
MAX_SECONDS_ANEW = {SMALL: 10.0}
MIN_RATIO = {(16, 5376): 10.0, (9, 4096): 50.0}
MAX_BYTES = 64.0


def run_gimbal(file: Path, samples: int, caps: tuple[int, int], rounds: int, seed: int) -> dict:
    """The patterns solved anew once, then medians over `rounds` epochs with the patterns at hand, reading included."""
    patterns = file.with_name(f"patterns_{samples}_{caps[0]}_{caps[1]}")
    options = ("--ranks", 8, "--seed", seed, "--patterns", patterns)
    anew = balance([file], caps, *options)
    before = os.times()
    later = [balance([file], caps, *options, "--epoch", epoch) for epoch in range(1, rounds + 1)]
    after = os.times()
    # Of the whole command, reading the sizes included: less than the wall time on a machine that others use too.
    cpu = (after.children_user - before.children_user + after.children_system - before.children_system) / rounds
    assert all(out["patterns"]["loaded"] for out in later), later
    at_hand = [out["pattern_seconds"] + out["pack_seconds"] for out in later]
    return {
        "samples": samples, "caps": caps, "rounds": rounds, "packs": anew["packs"], "packs_lower_bound": anew["packs_lower_bound"],
        "pack_seconds": statistics.median(at_hand), "pack_seconds_of_each": at_hand,
        "pattern_seconds": anew["pattern_seconds"], "anew_seconds": anew["pattern_seconds"] + anew["pack_seconds"],
        "command_cpu_seconds": cpu, "command_seconds": anew["total_seconds"], "bytes_per_sample": max(out["peak_bytes"] for out in [anew, *later]) / samples,
    }  # fmt: skip


def run_isf(sizes: np.ndarray, caps: tuple[int, int], seed: int) -> dict:
    from python_isf import isf

    vision, tokens = (column.tolist() for column in sizes.T)
    started, cpu = time.perf_counter(), time.process_time()
    packs = isf(vision, tokens, *caps, 50, seed)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"caps": caps, "packs": len(packs), "seconds": seconds, "cpu_seconds": cpu}


def judge(row: dict) -> list[str]:
    where, missed = f"{row['samples']:,} samples, caps {row['caps']}", []
    for key, limits, unit in (
        ("pack_seconds", MAX_SECONDS, "patterns at hand"),
        ("anew_seconds", MAX_SECONDS_ANEW, "patterns solved anew"),
    ):
        limit = limits.get(row["samples"])
        if limit is not None and row[key] > limit:
            missed.append(f"{where}, {unit}: {row[key]:.2f} s, at most {limit} s")
    if row["bytes_per_sample"] > MAX_BYTES:
        missed.append(f"{where}: {row['bytes_per_sample']:.1f} bytes per sample, at most {MAX_BYTES:.0f}")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip-large", action="store_true", help="leave the 10 million samples out")
    parser.add_argument("--skip-isf", action="store_true", help="leave the comparison with ISF out; it takes minutes")
    args = parser.parse_args()
    # The programs started from here inherit it: one core for all.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    data, _ = read_all()
    rows: list[dict] = []
    failures: list[str] = []
    facts = machine()
    print(f"{facts['cores']} cores, one used; load {facts['load_average']:.1f}", file=sys.stderr)
    print(
        f"{'samples':>10} {'vision tokens':>14} {'packs':>9} {'pack s':>7} {'anew s':>7} {'B/sample':>9} {'ISF s':>7} "
        f"{'ratio':>7}  verdict",
        file=sys.stderr,
    )
    with tempfile.TemporaryDirectory() as name:
        for samples in (SMALL,) if args.skip_large else (SMALL, LARGE):
            sizes = enlarge(data, samples)
            file = write_csv(Path(name) / f"{samples}.csv", sizes)
            for caps in MIN_RATIO:
                row = run_gimbal(file, samples, caps, args.rounds if samples == SMALL else 1, args.seed)
                missed = judge(row)
                if samples == SMALL and not args.skip_isf:
                    row["isf"] = run_isf(sizes, caps, args.seed)
                    row["ratio"] = row["isf"]["seconds"] / row["pack_seconds"]
                    row["ratio_anew"] = row["isf"]["seconds"] / row["anew_seconds"]
                    if row["ratio"] < MIN_RATIO[caps]:
                        missed.append(
                            f"{samples:,} samples, caps {caps}: {row['ratio']:.1f} times as fast as ISF, "
                            f"at least {MIN_RATIO[caps]:.0f}"
                        )
                failures += missed
                rows.append(row | {"met": not missed})
                isf = f"{row['isf']['seconds']:>7.1f} {row['ratio']:>7.1f}" if "isf" in row else f"{'':>15}"
                print(
                    f"{samples:>10} {caps[0]:>7} {caps[1]:>6} {row['packs']:>9} "
                    f"{row['pack_seconds']:>7.2f} {row['anew_seconds']:>7.2f} {row['bytes_per_sample']:>9.1f} {isf}  {'ok' if not missed else 'MISSED'}",
                    file=sys.stderr,
                )
            file.unlink()
    print(json.dumps({"benchmark": "balance_speed", "machine": facts, "rows": rows, "missed": failures}, indent=1))
    return verdict(failures)


if __name__ == "__main__":
    sys.exit(main())
