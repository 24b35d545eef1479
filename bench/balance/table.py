#!/usr/bin/env python3
"""Packs by gimbal, ISF (50 rounds) and best-fit-decreasing beside the proven lower bounds, for seven caps on the three
length files together and on each alone. Prints a table on stderr and JSON on stdout; exits 1 when a limit is missed.

Limits: on the three files together at most LIMITS packs; nowhere more than ISF or best-fit-decreasing; never below a
bound.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lengths_data import CAPS, FILES, balance, machine, verdict

# Within 0.3 % of the pattern LP of a trial at 32-token types.
LIMITS = dict(zip(CAPS, (27_283, 13_700, 11_240, 11_788, 10_378, 9_203, 8_369)))
METHODS = ("gimbal", "isf", "bfd")


def measure(files: list[Path], caps: tuple[int, int], seed: int) -> dict:
    """One cell: packs, seconds and the published ratio per method, and both bounds."""
    out = balance(files, caps, "--ranks", 8, "--compare", "--bound", "lp", "--seed", seed)
    by_name = {method["method"]: method for method in out["methods"]}
    for method in by_name.values():
        assert out["samples_in"] == method["samples_packed"] + method["samples_rejected"], method
    return {
        "caps": caps,
        "samples": out["samples_in"],
        "packs": {name: by_name[name]["packs"] for name in METHODS},
        "seconds": {name: by_name[name]["seconds"] for name in METHODS},
        "pattern_seconds": out["pattern_seconds"],
        "dist_ratio": {name: by_name[name]["dist_ratio"] for name in METHODS},
        "bound_fast": out["bound"]["fast"],
        "bound_lp": out["bound"]["lp"]["packs"],
        "bound_complete": out["bound"]["lp"]["complete"],
        "bound_seconds": out["bound_seconds"],
    }


def judge(name: str, cell: dict, limit: int | None) -> list[str]:
    packs, caps, missed = cell["packs"], cell["caps"], []
    if limit is not None and packs["gimbal"] > limit:
        missed.append(f"{name} {caps}: {packs['gimbal']:,} packs, at most {limit:,}")
    # On a single file best fit decreasing may win by a pack; its companions are the same in every epoch.
    for other in ("isf", "bfd") if limit is not None else ("isf",):
        if packs["gimbal"] > packs[other]:
            missed.append(f"{name} {caps}: {packs['gimbal']:,} packs, {other} {packs[other]:,}")
    for bound in ("bound_fast", "bound_lp"):
        if min(packs.values()) < cell[bound]:
            missed.append(
                f"{name} {caps}: {min(packs.values()):,} packs is less than {bound} {cell[bound]:,}: no true bound"
            )
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sets = {"together": list(FILES.values())} | {name: [path] for name, path in FILES.items()}
    failures: list[str] = []
    rows = []
    for name, files in sets.items():
        print(f"\n{name}", file=sys.stderr)
        names = ("at most", "gimbal", "isf", "bfd", "LP bound", "fast", "gap")
        print(
            f"{'vision tokens':>14}" + "".join(f"{title:>9}" for title in names) + f"{'s':>7}  verdict", file=sys.stderr
        )
        for caps in CAPS:
            cell = measure(files, caps, args.seed)
            limit = LIMITS[caps] if name == "together" else None
            missed = judge(name, cell, limit)
            failures += missed
            best = max(cell["bound_lp"], cell["bound_fast"])
            gap = cell["packs"]["gimbal"] / best - 1
            rows.append({"data": name, **cell, "limit": limit, "gap": gap, "met": not missed})
            counts = (limit or "", *cell["packs"].values(), cell["bound_lp"], cell["bound_fast"])
            seconds = cell["pattern_seconds"] + cell["seconds"]["gimbal"]
            print(
                f"{caps[0]:>7} {caps[1]:>6}" + "".join(f"{count:>9}" for count in counts)
                + f"{gap:>9.3%}{seconds:>7.2f}  {'ok' if not missed else 'MISSED'}",
                file=sys.stderr,
            )  # fmt: skip
    print(json.dumps({"benchmark": "balance_table", "machine": machine(), "cells": rows, "missed": failures}, indent=1))
    return verdict(failures)


if __name__ == "__main__":
    sys.exit(main())
