"""The measured ladder's model and data: OmniBal's length data at a quarter of the text and a sixteenth of a picture's
tokens, and a small InternVL whose vision tower has most of the work."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gimbal.dataset import Dataset
from gimbal.demo.model_folder import ImageProcessing, TextSizes, VisionSizes, make_model_folder
from gimbal.generate.programs import find_program
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "balance"))
from lengths_data import read_all

TOKENS_PER_TILE = 256  # of the length data
SIDE = 32  # pixels of a tile
VISION = VisionSizes(hidden_size=128, num_layers=8, num_heads=4, intermediate_size=512, image_size=SIDE, patch_size=4)
TEXT = TextSizes(hidden_size=128, num_layers=8, num_heads=4, num_key_value_heads=2, intermediate_size=384)
IMAGE = ImageProcessing(crop_to_patches=True, min_patches=1, max_patches=4)
TEXT_SCALE = 4  # own tokens of a sample are divided by it
# Pictures, in tiles, that are cut into so many with their thumbnail.
SHAPES = {1: (1, 1), 3: (2, 1), 4: (3, 1), 5: (2, 2)}
WORDS = ("red", "green", "blue", "white", "north", "south", "river", "house")
PICTURES_PER_SHAPE = 8


@dataclass(frozen=True)
class Inputs:
    model: Path
    data: Path
    sizes: np.ndarray  # [samples, 2]: tokens, tiles


def pictures(folder: Path) -> dict[int, list[str]]:
    """Files of noise by their number of tiles."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    files: dict[int, list[str]] = {}
    for tiles, (columns, rows) in SHAPES.items():
        for number in range(PICTURES_PER_SHAPE):
            pixels = draw.integers(0, 256, (rows * SIDE, columns * SIDE, 3), dtype=np.uint8)
            name = f"{tiles}_{number}.png"
            Image.fromarray(pixels).save(folder / name)
            files.setdefault(tiles, []).append(f"{folder.name}/{name}")
    return files


def conversation(picture: str, words: int) -> dict:
    """`words` in question and answer together, a quarter of them in the answer; each is a token."""
    text = list(itertools.islice(itertools.cycle(WORDS), words))
    answer = max(1, words // 4)
    question = " ".join(text[answer:])
    parts = [{"type": "image", "image": picture}, {"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": " ".join(text[:answer])}]}


def corpus() -> Iterator[str]:
    for _ in range(200):
        yield "user\n " + " ".join(WORDS) + "\nassistant\n " + " ".join(WORDS)


def prepare(model: Path, file: Path, out: Path) -> Dataset:
    words = [find_program("gimbal"), "prepare", "--model", model, "--data", file, "--out", out]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Dataset(out)


def make_inputs(folder: Path, samples: int, seed: int) -> Inputs:
    """Model folder and dataset of `samples` drawn from the length data. Every sample has the tiles of its original; its other
    tokens, the chat template's among them, are a quarter of the original's, rounded, where the template leaves room."""
    model = make_model_folder(folder / "model", corpus=corpus(), vocab_size=384, vision=VISION, text=TEXT, image=IMAGE)
    files = pictures(folder / "pictures")
    probe = folder / "probe.jsonl"
    probe.write_text(json.dumps(conversation(files[1][0], 8)) + "\n")
    overhead = int(prepare(model, probe, folder / "probe").index["num_tokens"][0]) - VISION.image_seq_length - 8

    chosen = np.random.default_rng(seed).choice(read_all()[0], samples, replace=False).astype(int)
    own = np.maximum(np.rint((chosen[:, 1] - TOKENS_PER_TILE * chosen[:, 0]) / TEXT_SCALE).astype(int), overhead + 2)
    draw = random.Random(seed)
    conversations = folder / "train.jsonl"
    with conversations.open("w") as out:
        for tiles, tokens in zip(chosen[:, 0], own, strict=True):
            out.write(json.dumps(conversation(draw.choice(files[int(tiles)]), int(tokens) - overhead)) + "\n")
    dataset = prepare(model, conversations, folder / "data")
    index = dataset.index
    sizes = np.stack([index["num_tokens"], index["vision_rows"]], axis=1).astype(int)
    wanted = np.stack([own + VISION.image_seq_length * chosen[:, 0], chosen[:, 0]], axis=1)
    if len(sizes) != samples or (abs(sizes - wanted) > [1, 0]).any():
        raise AssertionError("the dataset's sizes are not those that were asked for")
    return Inputs(model, folder / "data", sizes)
