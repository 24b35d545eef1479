#!/usr/bin/env python3
"""Seconds of a simulated pipeline of 64 unlike stages x 1,024 unlike micro-batches (1F1B), beside a straightforward
simulation in Python in the same run, which must find the same step; and of a step of 128 data-parallel pipelines of 16
stages x 32 micro-batches, which the planner calls for every candidate. One core. Prints JSON; exits 1 when a limit is
missed. Needs the release build (`make build`), or `--build FOLDER`.

Limits: the pipeline in 0.2 s. The first of its runs counts, which takes its memory anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ("sim", "cost", "schedule", "arch", "config", "base")
MAX_SECONDS = 0.2


def run_gimbal(build: Path, compiler: str) -> dict:
    libraries = [build / f"libgimbal_{name}.a" for name in LIBRARIES]
    for library in libraries:
        if not library.is_file():
            raise SystemExit(f"{library}: not there; run `make build`, or name the build folder with --build")
    includes = [f"-I{REPOSITORY / folder}" for folder in ("src", "tests/unit")]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "sim_speed"
        source = Path(__file__).with_suffix(".cpp")
        command = [compiler, "-std=c++20", "-O2", *includes, source, *libraries]
        command += ["-lyaml-cpp", "-lspdlog", "-lfmt", "-lpthread", "-o", program]
        subprocess.run([str(word) for word in command], check=True)
        return json.loads(subprocess.run([program], check=True, capture_output=True, text=True).stdout)


def run_python(stages: int, micro_batches: int) -> tuple[float, float]:
    """The step and the seconds that it takes to find it: rank after rank, each until it waits, until all are done."""
    started = time.perf_counter()
    order = []
    for stage in range(stages):
        ahead = min(micro_batches, stages - stage - 1)
        actions = [("F", m) for m in range(ahead)]
        for m in range(ahead, micro_batches):
            actions += [("F", m), ("B", m - ahead)]
        order.append(actions + [("B", m) for m in range(micro_batches - ahead, micro_batches)])
    arrived = {("F", 0, m): 0.0 for m in range(micro_batches)}
    position, free = [0] * stages, [0.0] * stages
    link_free: dict[tuple[str, int], float] = {}
    left = 2 * stages * micro_batches
    while left:
        for s in range(stages):
            while position[s] < len(order[s]):
                kind, m = order[s][position[s]]
                if (kind, s, m) not in arrived:
                    break
                seconds = 5 + (s * 7 + m * 13) % 11 if kind == "F" else 10 + (s * 5 + m * 17) % 19
                end = free[s] = max(free[s], arrived[kind, s, m]) + seconds
                position[s] += 1
                left -= 1
                if kind == "F" and s == stages - 1:
                    arrived["B", s, m] = end
                    continue
                to = s + 1 if kind == "F" else s - 1
                if to < 0:
                    continue
                cut = min(s, to)
                message = 0.5 + ((cut * 3 + m * 5) % 7) / 2
                link_free[kind, s] = max(end, link_free.get((kind, s), 0.0)) + message
                arrived[kind, to, m] = link_free[kind, s]
    return max(free), time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build" / "release", help="folder of the build")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"))
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # inherited by the program
    result = run_gimbal(args.build, args.compiler)
    pipeline = result["pipeline"]
    step, seconds = run_python(pipeline["stages"], pipeline["micro_batches"])
    pipeline["python_seconds"] = seconds
    pipeline["ratio"] = seconds / pipeline["seconds"]["first"]
    missed = []
    if step != pipeline["step"]:
        missed.append(f"the step is {pipeline['step']}, {step} in Python")
    if pipeline["seconds"]["first"] > MAX_SECONDS:
        missed.append(f"{pipeline['seconds']['first']:.3f} s, at most {MAX_SECONDS} s")
    facts = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "sim_speed", "machine": facts, **result, "missed": missed}, indent=1))
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
