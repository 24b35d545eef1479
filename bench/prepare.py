#!/usr/bin/env python3
"""Measures `gimbal prepare`: conversations per second and peak memory. Prints one JSON object.

    python bench/prepare.py --samples 40000 --workers 2
    python bench/prepare.py --samples 1000000 --workers 2     # memory stays flat

The conversations are those of easy-VQA (one 64 x 64 picture, about ten questions with answers), repeated until
`--samples`; without that package, generated ones of the same size.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))


def easy_vqa_conversations(folder: Path) -> tuple[list[list[tuple[str, str]]], list[str], str]:
    """Questions with answers per picture, and the pictures' paths."""
    try:
        import easy_vqa
    except ImportError:
        return generated_conversations(folder)
    texts, answers, ids = easy_vqa.get_train_questions()
    paths = easy_vqa.get_train_image_paths()
    turns: dict[int, list[tuple[str, str]]] = {}
    for text, answer, index in zip(texts, answers, ids):
        turns.setdefault(index, []).append((text, answer))
    order = sorted(turns)
    return [turns[index] for index in order], [paths[index] for index in order], "easy-vqa"


def generated_conversations(folder: Path) -> tuple[list[list[tuple[str, str]]], list[str], str]:
    from PIL import Image

    draw = random.Random(1)
    shapes, colors = ["circle", "rectangle", "triangle"], ["red", "green", "blue", "grey", "teal", "brown"]
    turns, paths = [], []
    for number in range(4000):
        path = folder / f"{number}.png"
        Image.new("RGB", (64, 64), tuple(draw.randrange(256) for _ in range(3))).save(path)
        paths.append(str(path))
        turns.append([(f"is there a {draw.choice(colors)} {draw.choice(shapes)}?", draw.choice(["yes", "no"])) for _ in range(6)])
    return turns, paths, "generated"


def write_samples(path: Path, turns, images, count: int) -> float:
    """Writes `count` JSON lines, repeating the conversations; returns the mean number of messages."""
    lines = []
    for talk, image in zip(turns, images):
        messages = []
        for question, answer in talk:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        messages[0]["content"] = [{"type": "image", "image": image}, {"type": "text", "text": talk[0][0]}]
        lines.append(json.dumps({"messages": messages}) + "\n")
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            file.write(lines[number % len(lines)])
    return 2 * sum(map(len, turns)) / len(turns)


class MemoryWatch(threading.Thread):
    """Samples the resident memory of this process and its children; keeps the proportional sum over time."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, int]] = []
        self._stop_event = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        while not self._stop_event.wait(0.5):
            self.samples.append((time.monotonic() - started, sum(map(_proportional_kib, _family()))))

    def stop(self) -> None:
        self._stop_event.set()
        self.join()


def _family() -> list[int]:
    own = os.getpid()
    result = [own]
    for task in os.listdir(f"/proc/{own}/task"):
        try:
            result += map(int, Path(f"/proc/{own}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return result


def _proportional_kib(process: int) -> int:
    # Forked workers share pages with the parent: proportional set size counts each page once.
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=40000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1000, help="cut conversations to this many questions")
    parser.add_argument("--model", help="model folder (default: a small one with a tokenizer trained on the questions)")
    options = parser.parse_args()

    from gimbal.demo.model_folder import make_model_folder
    from gimbal.prepare import PrepareConfig, Source, prepare

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        turns, images, kind = easy_vqa_conversations(folder)
        turns = [talk[: options.turns] for talk in turns]
        messages = write_samples(folder / "data.jsonl", turns, images, options.samples)
        corpus = [text for talk in turns[:500] for pair in talk for text in pair]
        model = options.model or str(make_model_folder(folder / "model", corpus=corpus))
        watch = MemoryWatch()
        config = PrepareConfig(model, [Source("data", [str(folder / "data.jsonl")])], str(folder / "out"), options.workers)
        warm = PrepareConfig(model, [Source("data", [str(folder / "warm.jsonl")])], str(folder / "warm"), 1)
        write_samples(folder / "warm.jsonl", turns, images, 256)
        prepare(warm)
        watch.start()
        started, cpu = time.monotonic(), os.times()
        manifest = prepare(config)
        seconds, after = time.monotonic() - started, os.times()
        watch.stop()
    spent = [b - a for a, b in zip(cpu, after)]
    half = [kib for at, kib in watch.samples if at <= seconds / 2]
    print(
        json.dumps(
            {
                "data": kind,
                "conversations": options.samples,
                "usable": manifest["counts"]["samples"],
                "messages_per_conversation": round(messages, 1),
                "tokens_per_conversation": round(manifest["counts"]["tokens"] / max(manifest["counts"]["samples"], 1), 1),
                "workers": options.workers,
                "seconds": round(seconds, 2),
                "conversations_per_second": round(options.samples / seconds),
                "cpu_seconds_parent": round(spent[0] + spent[1], 2),
                "cpu_seconds_workers": round(spent[2] + spent[3], 2),
                "conversations_per_worker_cpu_second": round(options.samples / max(spent[2] + spent[3], 1e-9)),
                "peak_mib_all_processes": round(max(kib for _, kib in watch.samples) / 1024, 1) if watch.samples else None,
                "peak_mib_first_half": round(max(half) / 1024, 1) if half else None,
                "load_average": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
