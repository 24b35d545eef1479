"""`make demo-vqa`: questions about shapes and colours (easy-VQA), trained in stages from random weights.

Run in the repository's root, where the recipe's paths start.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

from gimbal.demo import steps, transformers_check
from gimbal.demo import vqa_data as data
from gimbal.demo.digits_data import texts, write_jsonl
from gimbal.demo.model_folder import ImageProcessing, TextSizes, VisionSizes, make_model_folder

RECIPE = Path("recipes/easy_vqa.yaml")
DATA = Path("data/demo/easy_vqa")
RUN = Path("runs/easy_vqa")
STAGES = ("words", "phrasings", "captions", "questions")
DATASETS = (*STAGES, "validation", "test")
VALIDATION_PICTURES = 400
OPEN_QUESTIONS = 4000
VISION = VisionSizes(hidden_size=96, num_layers=3, num_heads=3, intermediate_size=384, image_size=32, patch_size=4, initializer_range=0.08)
TEXT = TextSizes(hidden_size=96, num_layers=3, num_heads=4, num_key_value_heads=2, intermediate_size=256, initializer_range=0.05)
# Values between -1 and 1.
IMAGE = ImageProcessing(image_mean=[0.5] * 3, image_std=[0.5] * 3)


def make_data(folder: Path) -> dict[str, Path]:
    """Writes pictures, one JSONL file for each of DATASETS and the model folder; returns the paths. The same bytes each time."""
    for part in ("train", "test"):
        data.copy_pictures(part, folder / "pictures")
    train, validation = data.hold_out(data.load_questions("train"), VALIDATION_PICTURES, seed=1)
    facts = data.derive_facts(train)
    plain, negated = (list(data.derived_questions(facts, seed=2, negated=negated)) for negated in (False, True))
    captions = list(data.captions(facts))
    balanced = data.balanced_questions(train, OPEN_QUESTIONS, seed=3)
    parts = {
        "words": data.described(facts, [*plain, *captions], "words", seed=4),
        "phrasings": data.described(facts, [*negated, *captions, *data.asked(train)], "phrasings", seed=5),
        "captions": itertools.chain(data.pictured(captions, "captions", "train"), data.pictured(captions, "mirrored", "mirrored")),
        "questions": data.half_mirrored([*captions, *balanced], "questions", seed=6),
        "validation": data.pictured(data.asked(validation), "validation", "train"),
        "test": data.pictured(data.asked(data.load_questions("test")), "test", "test"),
    }
    paths = {name: folder / f"{name}.jsonl" for name in parts}
    for name, samples in parts.items():
        write_jsonl(paths[name], samples)
    # The same few hundred texts come back thousands of times.
    corpus = list(dict.fromkeys(itertools.chain.from_iterable(texts(paths[name]) for name in STAGES)))
    paths["model"] = make_model_folder(folder / "model", corpus=corpus, vocab_size=512, vision=VISION, text=TEXT, image=IMAGE)
    return paths


def kind(question: data.Question) -> str:
    if question.is_open:
        return "which shape" if question.is_about_shape else "which color"
    return f"yes or no, {'shape' if question.is_about_shape else 'color'}" + (", negated" if question.is_negative else "")


def match_by_kind(predictions: Path, questions: list[data.Question]) -> dict[str, float]:
    """Share of right answers for each kind of question."""
    right: dict[str, list[bool]] = {}
    with predictions.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            right.setdefault(kind(questions[row["sample"]]), []).append(row["match"])
    return {name: sum(matches) / len(matches) for name, matches in sorted(right.items())}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m gimbal.demo.vqa", description=__doc__)
    parser.add_argument("--nproc", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe options for the training")
    args = parser.parse_args(arguments)
    step = steps.Steps(5)

    step.heading("Turning easy-VQA's pictures and questions into conversations")
    paths = make_data(DATA)
    for name in DATASETS:
        steps.gimbal("prepare", "--model", paths["model"], "--data", f"{name}={paths[name]}", "--out", DATA / name, "--overwrite")

    step.heading(f"Training in {len(STAGES)} stages from random weights with {args.nproc} processes")
    steps.fresh_run(RUN)
    steps.gimbal("train", RECIPE, "--nproc", str(args.nproc), *args.overrides)
    metrics = [steps.metrics_of(RUN / stage) for stage in STAGES]

    step.heading("Evaluating the exported model folder on the 9,673 test questions, each alone")
    export = RUN / STAGES[-1] / "hf"
    evaluation_file, predictions = RUN / "eval_of_export.json", RUN / "test_predictions.jsonl"
    steps.gimbal("evaluate", "--model", export, "--data", DATA / "test", "--json", evaluation_file, "--predictions", predictions,
                 "--nproc", str(args.nproc), "evaluate.max_new_tokens=8")
    evaluation = steps.read_json(evaluation_file)
    by_kind = match_by_kind(predictions, data.load_questions("test"))
    for name, share in by_kind.items():
        step.say(f"{share:7.2%}  {name}")

    step.heading("Asking the same questions of `transformers` with the exported folder")
    questions = transformers_check.read_questions(paths["test"])
    agree = transformers_check.agreement(export, questions, DATA, predictions, max_new_tokens=8)
    step.say(f"{agree:.2%} of the answers are the same, token by token")

    step.heading("Writing the report")
    report = RUN / "report.html"
    steps.gimbal("report", RUN, "--out", report)
    steps.result_line(
        exact_match=evaluation["exact_match"], answers=evaluation["answers"], by_kind=by_kind,
        train_seconds=sum(steps.train_seconds(stage) for stage in metrics),
        tokens_per_second=steps.tokens_per_second(metrics[-1]), transformers_agree=agree, report=str(report),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    from gimbal.__main__ import run

    sys.exit(run(["demo", "vqa", *sys.argv[1:]]))
