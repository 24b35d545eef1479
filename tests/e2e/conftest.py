"""Fixtures of the end-to-end tests: a tiny model, pictures with questions, and a way to train on them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

import pytest
from e2e_tool import Ended, Job, Run, words_of
from PIL import Image

COLOURS = ["red", "green", "blue", "white"]
TINY = {
    "vision.hidden_size": 32, "vision.num_layers": 1, "vision.num_heads": 2, "vision.intermediate_size": 64,
    "text.hidden_size": 32, "text.num_layers": 2, "text.num_heads": 2, "text.num_key_value_heads": 1, "text.intermediate_size": 64,
}  # fmt: skip
FILLER = ["the answer comes at the end", "look at each picture in its order", "there is one word for each of them"]


def conversation(images: list[str], question: str, answer: str) -> dict[str, Any]:
    parts = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}


def colour_talks(first: int, number: int) -> list[dict[str, Any]]:
    """Conversations of 0 to 4 pictures and of unlike length, the same for the same numbers."""
    talks = []
    for i in range(first, first + number):
        names = [COLOURS[(i * 7 + j * 3) % 4] for j in range(i % 5)]
        files = [f"{name}.{'png' if (i + j) % 2 else 'jpg'}" for j, name in enumerate(names)]
        question = " ".join([FILLER[i % 3]] * (1 + i % 4)) + ": which colours?"
        talks.append(conversation(files, question, " ".join(names) or "none"))
    return talks


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures: red.png, red.jpg, green.png, ..."""
    root = tmp_path_factory.mktemp("e2e")
    for number, name in enumerate(COLOURS):
        for suffix in ("png", "jpg"):
            Image.new("RGB", (16 + 5 * number, 16 + 3 * number), name).save(root / f"{name}.{suffix}")
    return root


def make_model(out: Path, **options: Any) -> Path:
    from gimbal.demo.model_folder import make_model_folder

    corpus = [json.dumps(talk) for talk in colour_talks(0, 20)] + FILLER * 20
    return make_model_folder(out, **{"corpus": corpus, "vocab_size": 320, "sizes": TINY, **options})


@pytest.fixture(scope="session")
def model(folder: Path) -> Path:
    """A tiny InternVL folder without weights."""
    return make_model(folder / "model")


@pytest.fixture(scope="session")
def prepare(folder: Path, model: Path) -> Callable[..., Path]:
    """prepare({source: samples}) -> dataset folder; image paths are those of `folder`, or absolute ones."""
    from gimbal.prepare import PrepareConfig, Source
    from gimbal.prepare import prepare as prepare_dataset

    number = count()

    def make(sources: dict[str, list[dict[str, Any]]], model_folder: Path = model, weights: dict[str, float] | None = None) -> Path:
        stem = f"data{next(number)}"
        lists = []
        for name, samples in sources.items():
            path = folder / f"{stem}_{name}.jsonl"
            path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
            lists.append(Source(name, [str(path)], (weights or {}).get(name, 1.0)))
        prepare_dataset(PrepareConfig(str(model_folder), lists, str(folder / stem), workers=1))
        return folder / stem

    return make


@pytest.fixture(scope="session")
def data(prepare: Callable[..., Path]) -> Path:
    return prepare({"colours": colour_talks(0, 60)})


@pytest.fixture(scope="session")
def held_out(prepare: Callable[..., Path]) -> Path:
    return prepare({"colours": colour_talks(100, 20)})


class Trainer:
    """Trains on the tiny model and data; `start` gives the running job, `run` waits for its end."""

    def __init__(self, model: Path, data: Path, root: Path) -> None:
        self.root = root
        self.number = count()
        self.recipe = root / "recipe.yaml"
        base = {
            "name": "tiny",
            "model": {"path": str(model), "init": "random"},
            "data": {"train": str(data)},
            "balance": {"text_cap": 192, "packs_per_step": 4},
            "optimizer": {"lr": 2e-3, "warmup_steps": 2},
            "train": {"seed": 3, "max_steps": 10, "device": "cpu", "threads": 1, "timeout_seconds": 60},
            "checkpoint": {"export_hf": False},
            "log": {"every_steps": 1},
        }
        self.recipe.write_text(json.dumps(base))  # JSON is YAML

    def start(self, overrides: dict[str, Any] | None = None, *, run: Run | None = None, ranks: int = 1, nproc: int = 1,
              recipe: Path | None = None, environment: dict[str, str] | None = None) -> tuple[Run, Job]:  # fmt: skip
        """`ranks`: processes that are started here; `nproc`: processes that `--nproc` starts."""
        number = next(self.number)
        run = run or Run(self.root / f"run{number}")
        words = ["train", str(recipe or self.recipe), f"train.run={run.folder}", *words_of(overrides or {})]
        if nproc > 1:
            words += ["--nproc", str(nproc)]
        return run, Job(words, self.root / f"log{number}", ranks=ranks, variables=environment)

    def end(self, overrides: dict[str, Any] | None = None, **options: Any) -> tuple[Run, Ended]:
        run, job = self.start(overrides, **options)
        return run, job.wait()

    def run(self, overrides: dict[str, Any] | None = None, **options: Any) -> Run:
        """A run that has to succeed."""
        run, ended = self.end(overrides, **options)
        assert ended.code == 0, ended.stderr
        return run

    def refused(self, overrides: dict[str, Any] | None = None, **options: Any) -> str:
        """The message of a run that has to end with exit code 2."""
        _, ended = self.end(overrides, **options)
        assert ended.code == 2, f"exit code {ended.code}:\n{ended.stderr}"
        assert "Traceback" not in ended.stderr and "terminate called" not in ended.stderr, ended.stderr
        return ended.stderr


@pytest.fixture(scope="session")
def trainer(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(model, data, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def base(trainer: Trainer) -> Run:
    """Ten float32 steps of the recipe as it is."""
    return trainer.run()
