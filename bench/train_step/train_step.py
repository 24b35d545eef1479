#!/usr/bin/env python3
"""Tokens per second of `gimbal train` against transformers + torch, measured in turns in one run.

Same model, same conversations, same number of threads. Two peers: padded shuffled mini-batches, and mini-batches of samples of
equal length, which waste nothing. Prints a table on stderr and JSON on stdout (and to --out).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from gimbal.demo import digits_data
from gimbal.demo.model_folder import TextSizes, VisionSizes, make_model_folder

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
STEPS, WARMUP = 6, 2

RECIPE = """
model: {{path: {model}, init: random, dtype: {dtype}}}
data: {{train: {data}, workers: 1, prefetch_packs: 8}}
balance: {{text_cap: {cap}, packs_per_step: {ranks}}}
optimizer: {{lr: 1e-4, schedule: constant}}
train: {{run: {run}, max_steps: {steps}, threads: {threads}}}
checkpoint: {{export_hf: false}}
log: {{every_steps: 1}}
"""


def make_inputs(folder: Path, scale: int) -> tuple[Path, Path]:
    """The demo's conversations, and a model of `scale` times the demo's widths."""
    scans = digits_data.write_pictures(folder / "pictures")
    digits_data.write_jsonl(folder / "train.jsonl", digits_data.training_conversations(scans))
    model = make_model_folder(
        folder / "model",
        corpus=digits_data.texts(folder / "train.jsonl"),
        vision=VisionSizes(
            hidden_size=96 * scale, num_layers=3, num_heads=3 * scale, intermediate_size=384 * scale,
            image_size=16 * scale, patch_size=4, downsample_ratio=0.5,
        ),
        text=TextSizes(hidden_size=128 * scale, num_layers=4, num_heads=4 * scale, num_key_value_heads=2 * scale, intermediate_size=384 * scale),
    )  # fmt: skip
    data = folder / "data"
    subprocess.run(
        [BIN / "gimbal", "prepare", "--model", model, "--data", folder / "train.jsonl", "--out", data], check=True, stdout=sys.stderr
    )
    return model, data


def run_gimbal(model: Path, data: Path, folder: Path, cap: int, ranks: int, threads: int, dtype: str) -> dict:
    run = Path(tempfile.mkdtemp(dir=folder, prefix="run_")) / "run"
    recipe = run.parent / "recipe.yaml"
    recipe.write_text(
        RECIPE.format(model=model, data=data, cap=cap, ranks=ranks, run=run, steps=STEPS + WARMUP, threads=threads, dtype=dtype)
    )
    words = [BIN / "gimbal", "train", recipe] + (["--nproc", str(ranks)] if ranks > 1 else [])
    subprocess.run(words, check=True, stdout=sys.stderr, stderr=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"][WARMUP:]
    total = {key: sum(line[key] for line in steps) for key in ("tokens", "step_seconds", "samples")}
    flops = sum(line["flops_per_second"] * line["step_seconds"] for line in steps)
    peak = next(line for line in lines if line["kind"] == "summary")["peak_flops_per_second"]
    return {
        "tokens_per_second": total["tokens"] / total["step_seconds"],
        "samples_per_step": total["samples"] / len(steps),
        "flops_per_token": flops / total["tokens"],
        "peak": peak,
    }


def run_peer(model: Path, data: Path, order: str, batch: int, ranks: int, threads: int, dtype: str) -> float:
    words: list = [sys.executable]
    if ranks > 1:
        words = [BIN / "torchrun", "--standalone", "--nproc-per-node", str(ranks)]
    words += [Path(__file__).with_name("peer.py"), "--model", model, "--data", data, "--order", order, "--batch", str(batch)]
    words += ["--steps", str(STEPS), "--warmup", str(WARMUP), "--threads", str(threads)] + (["--bf16"] if dtype == "bfloat16" else [])
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "python"), "OMP_NUM_THREADS": str(threads)}
    out = subprocess.run([str(word) for word in words], check=True, stdout=subprocess.PIPE, env=environment, text=True)
    figures = json.loads(out.stdout.strip().splitlines()[-1])
    return figures["tokens"] / figures["seconds"]


def compare(model: Path, data: Path, folder: Path, *, cap: int, ranks: int, threads: int, dtype: str, rounds: int) -> dict:
    """Medians of `rounds` turns; each turn measures Gimbal and both peers one after another."""
    turns: list[dict[str, float]] = []
    facts = run_gimbal(model, data, folder, cap, ranks, threads, dtype)
    batch = max(1, round(facts["samples_per_step"] / ranks))
    for _ in range(rounds):
        ours = run_gimbal(model, data, folder, cap, ranks, threads, dtype)
        turn = {"gimbal": ours["tokens_per_second"]}
        for order in ("shuffled", "sorted"):
            turn[order] = run_peer(model, data, order, batch, ranks, threads, dtype)
        turns.append(turn)
    median = {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
    share = {key: value * facts["flops_per_token"] / facts["peak"] for key, value in median.items()}
    return {
        "ranks": ranks, "threads": threads, "dtype": dtype, "samples_per_batch": batch, "tokens_per_second": median,
        "share_of_gemm_peak": share,
        "ratio_padded": statistics.median(turn["gimbal"] / turn["shuffled"] for turn in turns),
        "ratio_no_padding": statistics.median(turn["gimbal"] / turn["sorted"] for turn in turns),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=2, help="width of the model, in widths of the demo's")
    parser.add_argument("--cap", type=int, default=4096, help="text tokens in a pack")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cases = [(1, 1, "float32"), (1, 2, "float32"), (1, 1, "bfloat16"), (2, 1, "float32")]
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = make_inputs(folder, args.scale)
        for ranks, threads, dtype in cases:
            result = compare(model, data, folder, cap=args.cap, ranks=ranks, threads=threads, dtype=dtype, rounds=args.rounds)
            results.append(result)
            speeds = "  ".join(
                f"{key} {value:,.0f} tok/s ({100 * result['share_of_gemm_peak'][key]:.0f}% of GEMM peak)"
                for key, value in result["tokens_per_second"].items()
            )
            print(f"{ranks} x {threads} {dtype}: {speeds}", file=sys.stderr)
            print(f"    over padded {result['ratio_padded']:.2f}, over unpadded {result['ratio_no_padding']:.2f}", file=sys.stderr)
    text = json.dumps({"benchmark": "train_step", "scale": args.scale, "cap": args.cap, "results": results}, indent=2)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
