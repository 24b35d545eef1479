#!/usr/bin/env python3
"""Seconds that planning takes on one core: exact cuts and recompute of 101 blocks on 16 stages with 4 levels, from tight to
loose memory, and the whole search (caps, mesh, schedule, cuts, recompute) for 128 devices with 70,000 sample lengths. Prints
JSON; exits 1 when a limit is missed.

Limits: 0.1 s for every memory of the first, 2 s for the second. The lengths are the 40,941 of bench/balance/lengths, and again
the first ones of them up to 70,000.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from gimbal import UserError, arch
from gimbal.plan import Mesh, Planner, Search

BENCH = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCH / "omnibal"), str(BENCH / "balance")]
from lengths_data import read_all  # noqa: E402
from models import INTERNLM2_20B, INTERNVIT_6B, internvl  # noqa: E402

MAX_CUT_SECONDS = 0.1
MAX_SEARCH_SECONDS = 2.0
NUM_SAMPLES = 70_000
STAGES, MICRO_BATCHES = 16, 64


def time_cuts(text: np.ndarray, vision: np.ndarray) -> dict:
    config = internvl(INTERNLM2_20B)
    config["vision_config"] = {**INTERNVIT_6B, "num_hidden_layers": 48}
    planner = Planner(arch.describe(config), text_rows=text, vision_rows=vision, hardware="a100-80g")
    works = planner.pack("bfd", caps=(16384, 48), packs_per_step=MICRO_BATCHES).works
    found = []
    for gigabytes in range(24, 105, 4):
        pipeline = planner.pipeline(Mesh(pp=STAGES), micro_batches=MICRO_BATCHES, memory_bytes=gigabytes * 1e9)
        started = time.perf_counter()
        layout = pipeline.cut("gimbal", "knapsack", works)
        seconds = time.perf_counter() - started
        levels = {} if layout is None else {name: layout.recompute.count(name) for name in sorted(set(layout.recompute))}
        found.append({"memory_gb": gigabytes, "seconds": seconds, "fits": layout is not None, "levels": levels})
    blocks = len(planner.model.blocks)
    return {"blocks": blocks, "stages": STAGES, "slowest_seconds": max(run["seconds"] for run in found), "runs": found}


def time_search(text: np.ndarray, vision: np.ndarray) -> dict:
    planner = Planner(
        arch.describe(internvl(INTERNLM2_20B)), text_rows=text, vision_rows=vision, hardware="a100-80g", origin="lengths"
    )
    started = time.perf_counter()
    result = planner.search(Search(devices=128, samples_per_step=512))
    seconds = time.perf_counter() - started
    return {
        "samples": len(text),
        "devices": 128,
        "seconds": seconds,
        "meshes": result.num_meshes,
        "candidates": result.num_candidates,
        "simulated_steps": result.num_simulated,
        "passes": result.passes,
    }


def main() -> int:
    sizes, _ = read_all()
    rows = np.resize(np.asarray(sizes, dtype=np.uint32), (NUM_SAMPLES, 2))
    vision, text = rows[:, 0], rows[:, 1]
    figures = {"cuts": time_cuts(text, vision), "search": time_search(text, vision)}
    figures["limits"] = {"cuts": MAX_CUT_SECONDS, "search": MAX_SEARCH_SECONDS}
    met = figures["cuts"]["slowest_seconds"] <= MAX_CUT_SECONDS and figures["search"]["seconds"] <= MAX_SEARCH_SECONDS
    figures["limits_met"] = met
    print(json.dumps(figures, indent=2))
    print(
        f"cuts and recompute of {figures['cuts']['blocks']} blocks on {STAGES} stages: at most "
        f"{1e3 * figures['cuts']['slowest_seconds']:.1f} ms; search for 128 devices and {NUM_SAMPLES:,} samples: "
        f"{figures['search']['seconds']:.2f} s",
        file=sys.stderr,
    )
    return 0 if met else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"bench/plan/speed.py: {error}")
