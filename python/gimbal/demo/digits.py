"""`make demo`: teaches a small vision-language model to read scanned digits, and checks it.

Run in the repository's root, where the recipe's paths start.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gimbal.demo import digits_data, steps, transformers_check
from gimbal.demo.model_folder import make_model_folder

RECIPE = Path("recipes/demo_digits.yaml")
DATA = Path("data/demo/digits")
RUN = Path("runs/demo_digits")
# As many samples as a pack of the recipe holds on average, so that both ways of batching have steps of one size.
SAMPLES_PER_RANDOM_PACK = 8
COMPARED_STEPS = 25
# Widths of 96 and 128 want larger initial weights than the usual 0.02, which is meant for thousands: they learn twice as fast.
INITIAL_WEIGHTS = {"vision.initializer_range": 0.08, "text.initializer_range": 0.05}


def make_data(folder: Path) -> dict[str, Path]:
    """Writes pictures, train.jsonl, held_out.jsonl and the model folder; returns the paths. The same bytes each time."""
    scans = digits_data.write_pictures(folder / "pictures")
    training, held_out = digits_data.split(len(scans))
    paths = {"train": folder / "train.jsonl", "held_out": folder / "held_out.jsonl", "model": folder / "model"}
    digits_data.write_jsonl(paths["train"], digits_data.training_conversations([scans[i] for i in training]))
    digits_data.write_jsonl(paths["held_out"], digits_data.held_out_questions([scans[i] for i in held_out]))
    make_model_folder(paths["model"], corpus=digits_data.texts(paths["train"]), vocab_size=512, sizes=INITIAL_WEIGHTS)
    return paths


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m gimbal.demo.digits", description=__doc__)
    parser.add_argument("--nproc", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe options for the training")
    args = parser.parse_args(arguments)
    step = steps.Steps(6)

    step.heading("Writing 1,797 scanned digits and conversations about them")
    paths = make_data(DATA)
    step.say(f"{digits_data.NUM_CONVERSATIONS:,} training conversations, {digits_data.NUM_HELD_OUT} held-out scans in {DATA}")
    for name in ("train", "held_out"):
        steps.gimbal("prepare", "--model", paths["model"], "--data", f"digits={paths[name]}", "--out", DATA / name, "--overwrite")

    step.heading(f"Training from random weights with {args.nproc} processes, and answering the held-out questions")
    steps.fresh_run(RUN)
    steps.gimbal("train", RECIPE, "--nproc", str(args.nproc), *args.overrides)
    metrics = steps.metrics_of(RUN)

    step.heading("Comparing balanced packs with random groups of samples")
    ratio = steps.compare_batching(
        RECIPE, RUN / "compare", args.nproc, COMPARED_STEPS, SAMPLES_PER_RANDOM_PACK, args.overrides
    )
    step.say(f"balanced packs run {ratio:.2f} times as many real tokens/s")

    step.heading("Evaluating the exported model folder on the held-out scans")
    evaluation_file = RUN / "eval_of_export.json"
    steps.gimbal("evaluate", "--model", RUN / "hf", "--data", DATA / "held_out", "--json", evaluation_file,
                 "evaluate.max_new_tokens=8")
    evaluation = steps.read_json(evaluation_file)
    step.say(f"{evaluation['exact_match']:.2%} of the answers are exactly right")

    step.heading("Asking the same questions of `transformers` with the exported folder")
    questions = transformers_check.read_questions(paths["held_out"])
    agree = transformers_check.agreement(RUN / "hf", questions, DATA, RUN / "predictions.jsonl", max_new_tokens=8)
    step.say(f"{agree:.2%} of the answers are the same, token by token")

    step.heading("Writing the report")
    report = RUN / "report.html"
    steps.gimbal("report", RUN, "--out", report)
    steps.result_line(
        exact_match=evaluation["exact_match"], train_seconds=steps.train_seconds(metrics),
        tokens_per_second=steps.tokens_per_second(metrics), balanced_over_random=ratio,
        transformers_agree=agree, report=str(report),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    from gimbal.__main__ import run

    sys.exit(run(["demo", "digits", *sys.argv[1:]]))
