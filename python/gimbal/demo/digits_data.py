"""The data of the digits demo: scanned digits as picture files, and conversations about them.

All of it is a pure function of scikit-learn's `load_digits` and the seeds in this file.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NUM_HELD_OUT = 360
NUM_CONVERSATIONS = 4800
MAX_PICTURES = 12
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# (question, whether the answer is spelled out)
QUESTIONS = (
    ("Which digit is this?", False),
    ("What number do you see?", False),
    ("Read the scan.", False),
    ("Spell the digit.", True),
    ("Write this number in letters.", True),
)
PLACES = ("the harbour", "the old mill", "the station", "the market", "the library", "the north gate", "the school", "the bridge")
THINGS = ("boxes", "letters", "bicycles", "lamps", "tickets", "chairs", "parcels", "apples")

Turn = tuple[str, str]


@dataclass(frozen=True)
class Scan:
    """One scanned digit and the file that it was written to."""

    number: int
    digit: int
    file: str


def split(count: int) -> tuple[list[int], list[int]]:
    """(training, held-out) scan numbers, always the same ones."""
    order = list(range(count))
    random.Random(2).shuffle(order)
    return sorted(order[NUM_HELD_OUT:]), sorted(order[:NUM_HELD_OUT])


def write_pictures(folder: Path) -> list[Scan]:
    """Writes each of the 1,797 scans (8 x 8 pixels, 17 grey levels) enlarged to 16 to 64 pixels, as JPEG or PNG."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    scans = []
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target)):
        rng = random.Random(f"picture {number}")
        height = rng.randint(16, 64)
        width = min(64, max(16, round(height * rng.uniform(0.9, 1.1))))
        image = Image.fromarray((pixels * (255 / 16)).round().astype("uint8")).resize((width, height), Image.Resampling.BICUBIC)
        file = f"{number:04d}.{'jpg' if rng.random() < 0.5 else 'png'}"
        image.save(folder / file, **({"quality": 92} if file.endswith("jpg") else {}))
        scans.append(Scan(number, int(digit), f"{folder.name}/{file}"))
    return scans


def answer(digit: int, spelled: bool) -> str:
    return WORDS[digit] if spelled else str(digit)


def text_turn(rng: random.Random) -> Turn:
    """A turn without a picture: counting, or a note of very different length with a question about its end."""
    if rng.random() < 0.4:
        begin = rng.randint(1, 80)
        numbers = range(begin, begin + rng.randint(3, 12))
        return f"Count from {numbers[0]} to {numbers[-1]}.", ", ".join(map(str, numbers)) + "."
    lines = int(min(24, 1 + rng.expovariate(1 / 7)))
    note = [f"We counted {rng.randint(2, 99)} {rng.choice(THINGS)} at {rng.choice(PLACES)}." for _ in range(lines)]
    place = note[-1].rsplit(" at ", 1)[1].rstrip(".")
    return "Here is a note. " + " ".join(note) + " Where does the note end?", f"At {place}."


def training_conversations(scans: list[Scan], count: int = NUM_CONVERSATIONS) -> Iterator[dict]:
    """Conversations of 1 to 12 pictures, each followed by a question and its answer; every fifth one also has a longer
    text turn, some have only text. Pictures are dealt so that all scans are shown equally often."""
    rng = random.Random(3)
    deck: list[Scan] = []
    for number in range(count):
        turns: list[tuple[Scan | None, Turn]] = []
        kind = rng.random()
        if kind >= 0.04:
            for _ in range(rng.randint(1, MAX_PICTURES)):
                if not deck:
                    deck = list(scans)
                    rng.shuffle(deck)
                scan = deck.pop()
                question, spelled = rng.choice(QUESTIONS)
                turns.append((scan, (question, answer(scan.digit, spelled))))
        if kind < 0.20:
            turns.insert(rng.randint(0, len(turns)), (None, text_turn(rng)))
        yield conversation(f"train-{number}", turns)


def held_out_questions(scans: list[Scan]) -> Iterator[dict]:
    """Each held-out scan alone, with one question; the questions take turns."""
    for index, scan in enumerate(scans):
        question, spelled = QUESTIONS[index % len(QUESTIONS)]
        yield conversation(f"scan-{scan.number}", [(scan, (question, answer(scan.digit, spelled)))])


def conversation(name: str, turns: list[tuple[Scan | None, Turn]]) -> dict:
    messages = []
    for scan, (question, reply) in turns:
        content: str | list = question
        if scan is not None:
            content = [{"type": "image", "image": scan.file}, {"type": "text", "text": question}]
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": reply}]
    return {"id": name, "messages": messages}


def write_jsonl(path: Path, samples: Iterator[dict]) -> int:
    with path.open("w", encoding="utf-8") as file:
        count = 0
        for count, sample in enumerate(samples, start=1):
            file.write(json.dumps(sample, ensure_ascii=False) + "\n")
    return count


def texts(path: Path) -> Iterator[str]:
    """The texts of a JSONL file with their roles, to train a tokenizer on."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            for message in json.loads(line)["messages"]:
                parts = message["content"]
                for part in [{"text": parts}] if isinstance(parts, str) else parts:
                    if "text" in part:
                        yield f"{message['role']}\n{part['text']}\n"
