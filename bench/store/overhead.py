#!/usr/bin/env python3
"""Seconds of forward + backward, block by block, with the sharded store of one process, beside plain tensors that stay
bound, in turns in the same run: what the store costs when there is nothing to gather or to reduce. One core. Prints
JSON; exits 1 when the limit is missed. Needs the release build (`make build`), or `--build FOLDER`.

Limit: 1.03 times the plain tensors' time (median of the rounds' ratios), for small blocks and for larger ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARIES = ("parallel", "models", "nn", "tensor", "balance", "schedule", "data", "arch", "config", "base")
CASES = (("128", "256", "12", "80"), ("512", "512", "8", "12"))  # width, rows, blocks, rounds
MAX_RATIO = 1.03


def build_program(build: Path, compiler: str, program: Path) -> None:
    libraries = [build / f"libgimbal_{name}.a" for name in LIBRARIES]
    for library in libraries:
        if not library.is_file():
            raise SystemExit(f"{library}: not there; run `make build`, or name the build folder with --build")
    torch_folder = Path(torch.__file__).parent
    includes = [f"-I{REPOSITORY / 'src'}"]
    for folder in ("include", "include/torch/csrc/api/include"):
        includes += ["-isystem", torch_folder / folder]
    command = [compiler, "-std=c++20", "-O2", "-DAT_PER_OPERATOR_HEADERS", *includes]
    command += [Path(__file__).with_suffix(".cpp")]
    command += ["-Wl,--start-group", *libraries, "-Wl,--end-group", f"-L{torch_folder / 'lib'}", "-Wl,--no-as-needed"]
    command += ["-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch_folder / 'lib'}"]
    command += ["-lyaml-cpp", "-lspdlog", "-lfmt", "-lpthread", "-o", program]
    subprocess.run([str(word) for word in command], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=REPOSITORY / "build" / "release", help="folder of the build")
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"))
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # inherited by the program
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "store_overhead"
        build_program(args.build, args.compiler, program)
        for case in CASES:
            result = subprocess.run([program, *case], check=True, capture_output=True, text=True)
            cases.append(json.loads(result.stdout))
    facts = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    slow = [case for case in cases if case["ratio"] > MAX_RATIO]
    missed = [f"width {case['width']}: {case['ratio']:.3f} times, at most {MAX_RATIO}" for case in slow]
    print(json.dumps({"benchmark": "store_overhead", "machine": facts, "cases": cases, "missed": missed}, indent=1))
    for line in missed:
        print(f"missed: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
