#!/usr/bin/env python3
"""Waste per stream and in cost, order correlation and source mixing, for each method at 8, 64 and 1,024 ranks; for 1,024
the data is repeated with jitter. Prints a table on stderr and JSON on stdout; exits 1 when gimbal misses a limit.

Waste: mean over full slots of 1 - mean / max over ranks. Limits for gimbal: LIMITS, |order correlation| < 0.05, source
mix ratio <= 2. The order correlation is the one farthest from 0 of EPOCHS epochs: each of them has to keep the limit.
OmniBal reports a DistRatio of 0.02 for vision and 0.14 for language with ISF.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from lengths_data import CAPS, FILES, balance, enlarge, machine, read, verdict, write_csv

LIMITS = {8: 0.001, 64: 0.005, 1024: 0.02}
MAX_CORRELATION, MAX_MIX = 0.05, 2.0
EPOCHS = 4
KEYS = ("method", "samples_in", "packs", "slots", "fill", "waste", "order_correlation", "source_mix_ratio", "dist_ratio",
        "pad_ratio")  # fmt: skip
MAIN_CAPS = (16, 5376)
HEADER = (
    f"{'vision tokens':>14} {'ranks':>6} {'method':>7} {'packs':>8} {'slots':>6} {'vision':>9} {'tokens':>9} {'cost':>9} "
    f"{'pad':>7} {'DistRatio':>15} {'order':>7} {'mix':>6}  verdict"
)


def measure(files: list[Path], caps: tuple[int, int], ranks: int, seed: int, patterns: Path) -> list[dict]:
    """One row per method; the first is gimbal's."""
    options = ("--ranks", ranks, "--seed", seed, "--patterns", patterns)
    out = balance(files, caps, *options, *(["--compare"] if caps == MAIN_CAPS else []))
    rows = [{"caps": caps, "ranks": ranks, **{key: found[key] for key in KEYS}} for found in out.get("methods", [out])]
    ours = rows[0]
    later = [balance(files, caps, *options, "--epoch", epoch)["order_correlation"] for epoch in range(1, EPOCHS)]
    ours["order_correlations"] = [ours["order_correlation"], *later]
    ours["order_correlation"] = max(ours["order_correlations"], key=abs)
    return rows


def judge(row: dict) -> list[str]:
    """What of one row of gimbal's misses its limit."""
    where = f"caps {row['caps']}, {row['ranks']} ranks"
    missed = [
        f"{where}: waste in {stream} {waste:.4%}, at most {LIMITS[row['ranks']]:.1%}"
        for stream, waste in row["waste"].items()
        if not waste <= LIMITS[row["ranks"]]
    ]
    for epoch, correlation in enumerate(row["order_correlations"]):
        if not abs(correlation) < MAX_CORRELATION:
            missed.append(f"{where}: order correlation {correlation:.3f} in epoch {epoch}, below {MAX_CORRELATION}")
    if not row["source_mix_ratio"] <= MAX_MIX:
        missed.append(f"{where}: source mix ratio {row['source_mix_ratio']:.2f}, at most {MAX_MIX}")
    return missed


def line(row: dict) -> str:
    waste, dist = row["waste"], row["dist_ratio"]
    return (
        f"{row['caps'][0]:>7} {row['caps'][1]:>6} {row['ranks']:>6} {row['method']:>7} {row['packs']:>8} {row['slots']:>6} "
        f"{waste['vision']:>9.4%} {waste['tokens']:>9.4%} {waste['cost']:>9.4%} {row['pad_ratio']:>7.2%} {dist['vision']:>7.4f} "
        f"{dist['tokens']:>7.4f} {row['order_correlation']:>7.3f} {row['source_mix_ratio']:>6.2f}  "
    )


def enlarged_files(folder: Path, copies: int) -> list[Path]:
    """Each file repeated, under its own name, so that the sources stay apart."""
    parts = [(name, read(name)) for name in FILES]
    return [
        write_csv(folder / f"{name}.csv", enlarge(part, copies * len(part), seed))
        for seed, (name, part) in enumerate(parts)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=20, help="how often the data is repeated for 1,024 ranks")
    args = parser.parse_args()
    rows: list[dict] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        large = enlarged_files(Path(name), args.copies)
        cases = [(list(FILES.values()), caps, ranks) for ranks in (8, 64) for caps in CAPS]
        cases += [(large, caps, 1024) for caps in ((9, 4096), MAIN_CAPS)]
        print(HEADER, file=sys.stderr)
        for files, caps, ranks in cases:
            patterns = Path(name) / f"{'large' if files is large else 'small'}_{caps[0]}_{caps[1]}"
            for row in measure(files, caps, ranks, args.seed, patterns):
                judged = row["method"] == "gimbal"
                missed = judge(row) if judged else []
                failures += missed
                rows.append(row | {"met": not missed if judged else None})
                print(line(row) + ("" if not judged else "ok" if not missed else "MISSED"), file=sys.stderr)
    print(json.dumps({"benchmark": "balance_waste", "machine": machine(), "rows": rows, "missed": failures}, indent=1))
    return verdict(failures)


if __name__ == "__main__":
    sys.exit(main())
