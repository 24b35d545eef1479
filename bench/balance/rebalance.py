#!/usr/bin/env python3
"""Seconds and quality of the run-time rebalance plan on slots of random pictures, beside a plain longest-processing-time
assignment in Python timed in the same run. Prints a table on stderr and JSON on stdout; exits 1 when a limit is missed.

Limits: 1,024 items on 64 ranks <= 2 ms, 20,000 on 1,024 ranks <= 50 ms (the split tables of ranks^2 numbers included).
`moved` is the share of all bytes that changes ranks; at least `excess` must: what the busy ranks hold above the new
maximum, at the mean bytes per cost.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
import time

import numpy as np
from gimbal.balance import plan_rebalance
from lengths_data import machine, verdict

MAX_SECONDS = {(1_024, 64): 0.002, (20_000, 1_024): 0.050}
CASES = ((64, 8), (1_024, 64), (20_000, 1_024))


def draw_slot(items: int, ranks: int, tiles: bool, seed: int) -> tuple[np.ndarray, ...]:
    """Owners, costs and bytes there and back. Costs are 1 to 12 tiles, or spread over a factor of 50 (native
    resolution); three items in ten belong to the first quarter of the ranks, so that the slot is uneven."""
    rng = np.random.default_rng(seed)
    owners = rng.integers(0, ranks, items)
    owners = np.where(rng.random(items) < 0.3, owners // 4, owners).astype(np.uint32)
    costs = rng.integers(1, 13, items).astype(float) if tiles else 200 * np.exp(4 * rng.random(items))
    return owners, costs, (costs * 100_000).astype(np.uint64), (costs * 30_000).astype(np.uint64)


def longest_first(costs: list[float], ranks: int) -> list[float]:
    """Graham's rule alone: the ranks' costs."""
    heap = [(0.0, rank) for rank in range(ranks)]
    loads = [0.0] * ranks
    for cost in sorted(costs, reverse=True):
        load, rank = heap[0]
        loads[rank] = load + cost
        heapq.heapreplace(heap, (loads[rank], rank))
    return loads


def run_case(items: int, ranks: int, tiles: bool, rounds: int, seed: int) -> dict:
    owners, costs, there, back = draw_slot(items, ranks, tiles, seed)
    seconds, peer_seconds = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        plan = plan_rebalance(owners, costs, there, back, ranks)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        loads = longest_first(costs.tolist(), ranks)
        peer_seconds.append(time.perf_counter() - started)
    before = np.bincount(owners, weights=costs, minlength=ranks)
    excess = float(np.maximum(before - plan.max_cost, 0).sum() / costs.sum())
    return {
        "items": items, "ranks": ranks, "sizes": "tiles" if tiles else "native", "rounds": rounds,
        "seconds": min(seconds), "longest_first_seconds": min(peer_seconds),
        "before": plan.max_cost_before / plan.max_cost_lower_bound, "after": plan.max_cost / plan.max_cost_lower_bound,
        "longest_first": max(loads) / plan.max_cost_lower_bound,
        "moved": plan.moved_bytes / int(there.sum() + back.sum()), "excess": excess,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = [run_case(*case, tiles, arguments.rounds, arguments.seed) for case in CASES for tiles in (True, False)]
    print(f"{'items':>7} {'ranks':>6} {'sizes':>7} {'ms':>8} {'LPT ms':>8} {'before':>7} {'after':>7} {'LPT':>7} {'moved':>6} {'excess':>6}", file=sys.stderr)  # fmt: skip
    missed = []
    for row in rows:
        print(
            f"{row['items']:7,} {row['ranks']:6,} {row['sizes']:>7} {1e3 * row['seconds']:8.3f} {1e3 * row['longest_first_seconds']:8.3f}"
            f" {row['before']:7.3f} {row['after']:7.4f} {row['longest_first']:7.4f} {row['moved']:6.3f} {row['excess']:6.3f}",
            file=sys.stderr,
        )
        limit = MAX_SECONDS.get((row["items"], row["ranks"]))
        if limit is not None and row["seconds"] > limit:
            missed.append(f"{row['items']:,} items on {row['ranks']:,} ranks: {row['seconds']:.4f} s, limit {limit} s")
    print(json.dumps({"machine": machine(), "rows": rows, "missed": missed}, indent=1))
    return verdict(missed)


if __name__ == "__main__":
    sys.exit(main())
