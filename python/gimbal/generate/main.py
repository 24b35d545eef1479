"""`gimbal generate --model FOLDER --prompt TEXT`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.decoder import TokenDecoder
from gimbal.generate.programs import find_program, model_folder
from gimbal.generate.stream import StreamDecoder

EXAMPLES = """examples:
  gimbal generate --model runs/digits --image scan.png --prompt "Which digit is this?"
  gimbal generate --model MODEL --prompt "Tell me a story." --max-new-tokens 200 --temperature 0.8 --top-p 0.9
  gimbal generate --model MODEL --messages chat.json --json

The text comes to stdout as it is made. `<image>` in the prompt says where a picture goes; without it, pictures come first.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UserError(f"{message} (see gimbal generate --help)")


def parser() -> argparse.ArgumentParser:
    result = _Parser(
        prog="gimbal generate", description="Answers a prompt with a trained model.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--model", required=True, metavar="FOLDER", help="model folder, or a run folder (its exported model, or its newest checkpoint)")
    result.add_argument("--prompt", metavar="TEXT", help="the question; '-' reads it from stdin")
    result.add_argument("--image", action="append", default=[], metavar="FILE", help="a picture for the prompt; may be repeated")
    result.add_argument("--messages", metavar="FILE", help="JSON with a conversation that ends with the user's message")
    result.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="longest answer (256)")
    result.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0: always the most likely token (0)")
    result.add_argument("--top-p", type=float, default=1.0, metavar="P", help="sample from the tokens that hold this much probability (1)")
    result.add_argument("--top-k", type=int, default=0, metavar="K", help="sample from the K most likely tokens; 0: all (0)")
    result.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the sampling (0)")
    result.add_argument("--json", action="store_true", help="print one JSON object at the end instead of the text")
    return result


def main(arguments: list[str]) -> int:
    args = parser().parse_args(arguments)
    _check(args)
    program = find_program("gimbal-run")
    # Heavy imports only after the cheap checks.
    from gimbal.generate.prompt import make_prompt_dataset, read_messages, user_message

    if args.messages:
        messages, images = read_messages(args.messages)
        media_root = str(Path(args.messages).resolve().parent)
    else:
        messages, images = user_message(sys.stdin.read() if args.prompt == "-" else args.prompt, args.image)
        media_root = None
    with tempfile.TemporaryDirectory(prefix="gimbal-generate-") as folder:
        model = model_folder(args.model, Path(folder))
        prompt_tokens = make_prompt_dataset(model, messages, Path(folder), images=images, media_root=media_root)
        command = [
            program, "generate", "--model", str(model), "--data", str(Path(folder) / "dataset"),
            "--max-new-tokens", str(args.max_new_tokens), "--temperature", str(args.temperature),
            "--top-p", str(args.top_p), "--top-k", str(args.top_k), "--seed", str(args.seed),
        ]
        return _show(command, model, prompt_tokens, as_json=args.json)


def _check(args: argparse.Namespace) -> None:
    if (args.prompt is None) == (args.messages is None):
        raise UserError("give either --prompt TEXT or --messages FILE")
    if args.messages and args.image:
        raise UserError("--image goes with --prompt; name the pictures inside the --messages file")
    if args.max_new_tokens < 1:
        raise UserError(f"--max-new-tokens {args.max_new_tokens}: must be at least 1")
    if args.temperature < 0:
        raise UserError(f"--temperature {args.temperature}: must not be negative")
    if not 0 < args.top_p <= 1:
        raise UserError(f"--top-p {args.top_p}: must be above 0 and at most 1")
    if args.top_k < 0:
        raise UserError(f"--top-k {args.top_k}: must not be negative")


def token_events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The records of gimbal-run's output, up to the one that says `done`."""
    for line in lines:
        record = json.loads(line)
        yield record
        if record.get("done"):
            return


def _show(command: list[str], model: Path, prompt_tokens: int, *, as_json: bool) -> int:
    stream = StreamDecoder(TokenDecoder(model).decode)
    tokens: list[int] = []
    text, reason = "", None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            for record in token_events(process.stdout):
                if record.get("done"):
                    reason = record["reason"]
                    break
                tokens.append(record["token"])
                text += (piece := stream.push(record["token"]))
                if piece and not as_json:
                    print(piece, end="", flush=True)
        except BaseException:
            process.kill()
            raise
        process.stdout.read()
    text += (rest := stream.finish())
    if as_json:
        if process.returncode == 0:
            print(json.dumps({"text": text, "tokens": tokens, "reason": reason, "prompt_tokens": prompt_tokens}, ensure_ascii=False))
    else:
        print(rest, flush=True)
    return process.returncode
