"""The command line of `gimbal inspect`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.dataset import Dataset
from gimbal.inspect.checkpoint import is_checkpoint, read_checkpoint, to_value
from gimbal.inspect.checkpoint_text import format_checkpoint
from gimbal.inspect.histogram import format_histogram, histogram
from gimbal.inspect.run_folder import format_communication, format_run, inspect_run, is_run
from gimbal.inspect.sample_view import describe_sample, format_sample
from gimbal.prepare.model import load_tokenizer, tokenizer_sha256

_NUM_REJECTIONS = 3


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message} (see gimbal inspect --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gimbal inspect",
        description="Show what a dataset folder, a run folder or a checkpoint holds. Exit code 1: a checkpoint is damaged.",
        epilog="examples:\n  gimbal inspect data/train\n  gimbal inspect data/train --sample 0 --sample 17\n"
        "  gimbal inspect data/train --json\n  gimbal inspect runs/demo\n"
        "  gimbal inspect runs/demo/checkpoints/step-00000100 --verify",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER", help="dataset folder, run folder or checkpoint")
    parser.add_argument("--sample", type=int, action="append", default=[], metavar="I", help="show sample I, decoded (repeatable)")
    parser.add_argument("--model", metavar="FOLDER", help="model folder with the tokenizer (the manifest's)")
    parser.add_argument("--verify", action="store_true", help="of checkpoints: read all files and compare their checksums")
    parser.add_argument("--parameters", action="store_true", help="of checkpoints: list each parameter, not only the model's parts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def summary(data: Dataset) -> dict[str, Any]:
    """Counts, sources, histograms and rejections as a JSON-ready value."""
    manifest = data.manifest
    return {
        "dataset": str(data.folder),
        "counts": manifest["counts"],
        "sources": [{key: s[key] for key in ("name", "weight", "samples", "rejected")} for s in manifest["sources"]],
        "model": {"type": manifest["model"]["type"], "folder": manifest["model"]["folder"]},
        "text": histogram(data.index["num_tokens"]),
        "vision": histogram(data.index["vision_rows"]),
        "rejected_by_reason": data.rejections(),
        "first_rejected": data.first_rejections(_NUM_REJECTIONS),
    }


def format_summary(value: dict[str, Any]) -> list[str]:
    counts = value["counts"]
    share = counts["loss_tokens"] / max(counts["tokens"], 1)
    lines = [
        f"{value['dataset']} (for {value['model']['type']}, {value['model']['folder']})",
        f"  {counts['samples']:,} samples, {counts['rejected']:,} rejected",
        f"  {counts['tokens']:,} tokens, {counts['loss_tokens']:,} with loss ({share:.1%}) in {counts['loss_spans']:,} turns",
        f"  {counts['media']:,} distinct images, shown {counts['media_refs']:,} times, {counts['vision_rows']:,} tiles",
        "sources:",
    ]
    for source in value["sources"]:
        lines.append(
            f"  {source['name']}: {source['samples']:,} samples, weight {source['weight']:g}, {source['rejected']:,} rejected"
        )
    lines += format_histogram("tokens per sample", value["text"])
    lines += format_histogram("tiles per sample", value["vision"])
    if value["rejected_by_reason"]:
        lines.append("rejected:")
        for reason, count in sorted(value["rejected_by_reason"].items(), key=lambda item: -item[1]):
            lines.append(f"  {count:>8,}  {reason}")
        lines += [f"  e.g. {r['file']}, line {r['line']}: {r['reason']}: {r['detail']}" for r in value["first_rejected"]]
    return lines


def _load_tokenizer(data: Dataset, folder: str | None):
    model = data.manifest["model"]
    path = Path(folder or model["folder"])
    if not path.is_dir():
        raise UserError(f"{path}: the model folder is gone; name one with the same tokenizer with --model")
    tokenizer = load_tokenizer(path)
    if tokenizer_sha256(path) != model["tokenizer_sha256"]:
        raise UserError(f"{path}: its tokenizer is not the one that {data.folder} was made with; name the right one with --model")
    return tokenizer


def _print(value: dict[str, Any], lines: list[str], as_json: bool) -> None:
    print(json.dumps(value, ensure_ascii=False) if as_json else "\n".join(lines))


def _inspect_checkpoints(options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    if options.sample or options.model:
        raise UserError(f"--sample and --model are for dataset folders; {folder} holds checkpoints")
    if is_checkpoint(folder):
        value = to_value(read_checkpoint(folder, options.verify))
        _print(value, format_checkpoint(value, options.verify, options.parameters), options.json)
    else:
        value = inspect_run(folder, options.verify)
        newest = value["newest"]
        details = ["newest:", *format_checkpoint(newest, options.verify, options.parameters)] if newest else []
        _print(value, format_run(value) + details + format_communication(value["communication"]), options.json)
    return 0 if value["ok"] else 1


def _inspect_dataset(options: argparse.Namespace) -> int:
    for name in ("verify", "parameters"):
        if getattr(options, name):
            raise UserError(f"--{name} is for checkpoints and run folders; {options.folder} is neither")
    data = Dataset(options.folder)
    samples: list[dict[str, Any]] = []
    if options.sample:
        infos = [(i, data.sample(i)) for i in options.sample]
        tokenizer = _load_tokenizer(data, options.model)
        samples = [describe_sample(data, i, info, tokenizer) for i, info in infos]
    if options.json:
        _print({"samples": samples} if samples else summary(data), [], True)
        return 0
    color = sys.stdout.isatty()
    lines = [line for value in samples for line in format_sample(value, color)] if samples else format_summary(summary(data))
    print("\n".join(lines))
    return 0


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    folder = Path(options.folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; name a dataset folder, a run folder or a checkpoint")
    if is_checkpoint(folder) or is_run(folder):
        return _inspect_checkpoints(options)
    if not (folder / "manifest.json").is_file():
        raise UserError(
            f"{folder}: is neither a dataset folder (manifest.json), nor a run folder (checkpoints/), nor a checkpoint (state.json)"
        )
    return _inspect_dataset(options)
