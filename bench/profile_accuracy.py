#!/usr/bin/env python3
"""How well `gimbal profile` predicts: 20 packs that it has not seen, run by the tape, beside the cost model's figures.

A tiny InternVL of the digits demo is profiled minutes before. For recompute keep and full: the error of a pack's time (forward,
backward, recompute) and of its peak of activation bytes. Prints a table on stderr and JSON on stdout (and to --out). Its exit
code is 1 when a median is above 5 % or a 90th percentile of times above 10 %. Needs `make build` and the demo's data (`make demo`, or
--data and --model). --clock cpu counts the processor's time of one thread, for a machine that others use as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def run(words: list[str | Path]) -> str:
    # As `gimbal profile` and `gimbal train` run: prepared kernels and freed memory are kept.
    variables = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8192", "MALLOC_TRIM_THRESHOLD_": "4294967296",
                 "MALLOC_MMAP_THRESHOLD_": "33554432", **os.environ}  # fmt: skip
    result = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, text=True, env=variables)
    if result.returncode:
        sys.exit(f"{words[0]} failed; the reason is above")
    return result.stdout


def summary(packs: list[dict[str, Any]], level: str) -> dict[str, float]:
    chosen = [pack for pack in packs if pack["level"] == level]
    time = np.array([pack["time_error"] for pack in chosen])
    peak = np.array([pack["peak_error"] for pack in chosen])
    return {
        "packs": len(chosen),
        "time_error_median": float(np.median(abs(time))),
        "time_error_90th": float(np.quantile(abs(time), 0.9)),
        "time_error_mean_signed": float(time.mean()),
        "peak_error_median": float(np.median(abs(peak))),
        "peak_error_largest": float(abs(peak).max()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--model", type=Path, default=ROOT / "data/demo/digits/model")
    parser.add_argument("--data", type=Path, default=ROOT / "data/demo/digits/train")
    parser.add_argument("--text-cap", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=30, help="to profile")
    parser.add_argument("--packs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each pack")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    options = [f"model.path={args.model}", f"data.train={args.data}", f"balance.text_cap={args.text_cap}",
               f"train.threads={args.threads}", f"model.dtype={args.dtype}", "train.device=cpu"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        run([args.build / "apps/cli/gimbal", "profile", "--model", args.model, "--out", profile, "--seconds", str(args.seconds),
             "--clock", args.clock, "--json", *options[1:]])  # fmt: skip
        table = json.loads(profile.read_text())
        program = args.build / "tests/support/profile_accuracy/profile_accuracy"
        clock = ["--cpu-clock"] if args.clock == "cpu" else []
        measured = json.loads(run([program, "--profile", profile, "--packs", str(args.packs), "--rounds", str(args.rounds),
                                   *clock, *options]))  # fmt: skip
    packs = measured["packs"]
    levels = {level: summary(packs, level) for level in ("keep", "full")}
    residuals = {name: cost["residual"] for name, cost in table["blocks"].items()}
    figures = {
        "what": "predicted against measured time and peak activation bytes of unseen packs",
        "command": " ".join(["bench/profile_accuracy.py", *sys.argv[1:]]),
        "machine": table["hardware"],
        "dtype": args.dtype,
        "text_cap": args.text_cap,
        "clock": args.clock,
        "residuals": residuals,
        "levels": levels,
        "packs": packs,
    }
    print("level  time: median   90th    mean  peak: median  largest", file=sys.stderr)
    for level, s in levels.items():
        print(f"{level:6}      {s['time_error_median']:7.1%} {s['time_error_90th']:7.1%} {s['time_error_mean_signed']:+7.1%}"
              f"       {s['peak_error_median']:7.1%}  {s['peak_error_largest']:7.1%}", file=sys.stderr)  # fmt: skip
    text = json.dumps(figures, indent=2)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)
    good = all(s["time_error_median"] <= 0.05 and s["time_error_90th"] <= 0.1 and s["peak_error_median"] <= 0.05 for s in levels.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
