"""The command line of `gimbal prepare`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from gimbal import UserError
from gimbal.prepare.config import PrepareConfig, config_from_json, sources_from_arguments
from gimbal.prepare.reject import REASONS

_EXAMPLES = """examples:
  gimbal prepare --model models/InternVL3-1B-hf --data train.jsonl --out data/train
  gimbal prepare --model M --data chat=a.jsonl chat=b.jsonl docs=c.parquet --source docs=0.5 --out D --workers 8
  gimbal prepare --config prepare.json

A file is .jsonl, .json (array or lines) or .parquet. Each line is OpenAI-style `messages` (image parts, or `<image>` marks with
`images`), LLaVA-style `conversations`, or plain `text`. A message with "loss": false (or "weight": 0) is not trained on.
Samples that can't be used are listed with their reasons in OUT/rejected.jsonl. An interrupted run is taken up again by the same command.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message} (see gimbal prepare --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gimbal prepare",
        description="Turn conversations and pictures into a dataset folder.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", metavar="FOLDER", help="Hugging Face model folder: tokenizer, chat template, image processor")
    parser.add_argument("--data", nargs="+", action="extend", metavar="[NAME=]FILE", help="source files; files of one NAME form one source")
    parser.add_argument("--out", metavar="DATASET", help="dataset folder to write")
    parser.add_argument("--source", nargs="+", action="extend", default=[], metavar="NAME=WEIGHT", help="sampling weight of a source (1)")
    parser.add_argument("--media-root", metavar="DIR", help="where relative image paths start (the folder of the file)")
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="worker processes (one per core)")
    parser.add_argument("--max-tokens", type=int, default=None, metavar="N", help="reject longer samples; 0: no limit (0)")
    parser.add_argument("--strict", action="store_true", help="stop with exit code 2 at the first rejected sample")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished dataset")
    parser.add_argument("--image-min-patches", type=int, metavar="N", help="least tiles of a picture (the model folder's)")
    parser.add_argument("--image-max-patches", type=int, metavar="N", help="most tiles of a picture (the model folder's)")
    parser.add_argument(
        "--image-crop-to-patches", choices=("true", "false"), help="whether pictures are cut into tiles (the model folder's)"
    )
    parser.add_argument("--config", metavar="FILE", help="JSON file with these options; those on the command line come first")
    parser.add_argument("--json", action="store_true", help="print the manifest on stdout")
    return parser


def config_from_arguments(options: argparse.Namespace) -> PrepareConfig:
    """The configuration file, if any, with the command line's options over it."""
    given: dict[str, Any] = {
        "model": options.model,
        "out": options.out,
        "workers": options.workers,
        "max_tokens": options.max_tokens,
        "strict": options.strict or None,
        "overwrite": options.overwrite or None,
        "image_min_patches": options.image_min_patches,
        "image_max_patches": options.image_max_patches,
        "image_crop_to_patches": {"true": True, "false": False, None: None}[options.image_crop_to_patches],
    }
    given = {key: value for key, value in given.items() if value is not None}
    if options.data:
        sources, order = sources_from_arguments(options.data, options.source, options.media_root)
        given |= {"sources": sources, "order": order}
    elif options.source or options.media_root:
        raise UserError("--source and --media-root go with --data")
    if options.config:
        config = config_from_json(options.config)
        for key, value in given.items():
            setattr(config, key, value)
        return config
    missing = [f"--{name}" for name, key in (("model", "model"), ("data", "sources"), ("out", "out")) if key not in given]
    if missing:
        raise UserError(f"missing {', '.join(missing)} (see gimbal prepare --help)")
    return PrepareConfig(**given)


def main(arguments: list[str]) -> int:
    from gimbal.prepare.build import build_dataset

    options = _parser().parse_args(arguments)
    config = config_from_arguments(options)
    try:
        manifest = build_dataset(config)
    except KeyboardInterrupt:
        print(f"\ninterrupted; run the same command again to go on from {config.out}.partial", file=sys.stderr)
        return 130
    _summary(config, manifest)
    if options.json:
        json.dump(manifest, sys.stdout, indent=2)
        print()
    if not manifest["counts"]["samples"]:
        print(f"error: {config.out} has no usable sample; see rejected.jsonl in it", file=sys.stderr)
        return 1
    return 0


def _summary(config: PrepareConfig, manifest: dict[str, Any]) -> None:
    counts = manifest["counts"]
    lines = [
        f"{config.out}: {counts['samples']:,} samples, {counts['tokens']:,} tokens ({counts['loss_tokens']:,} with loss), "
        f"{counts['media']:,} images shown {counts['media_refs']:,} times, {counts['vision_rows']:,} tiles"
    ]
    if counts["rejected"]:
        lines.append(f"rejected {counts['rejected']:,} samples (listed in {config.out}/rejected.jsonl):")
        for reason, count in sorted(manifest["rejected_by_reason"].items(), key=lambda item: -item[1]):
            lines.append(f"  {count:>8,}  {reason}: {REASONS[reason]}")
    print("\n".join(lines), file=sys.stderr)
