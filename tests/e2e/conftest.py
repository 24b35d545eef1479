"""Fixtures of the end-to-end tests: a tiny model, pictures with questions, and a way to train on them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

import pytest
from e2e_data import COLOURS, MESH_SIZES, colour_talks, make_model
from e2e_tool import Ended, Job, Run, words_of
from PIL import Image

@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures: red.png, red.jpg, green.png, ..."""
    root = tmp_path_factory.mktemp("e2e")
    for number, name in enumerate(COLOURS):
        for suffix in ("png", "jpg"):
            Image.new("RGB", (16 + 5 * number, 16 + 3 * number), name).save(root / f"{name}.{suffix}")
    return root


@pytest.fixture(scope="session")
def model(folder: Path) -> Path:
    """A tiny InternVL folder without weights."""
    return make_model(folder / "model")


@pytest.fixture(scope="session")
def mesh_model(folder: Path) -> Path:
    """The same tokenizer; enough layers and heads to be divided in four along any axis."""
    return make_model(folder / "mesh_model", sizes=MESH_SIZES)


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
        self.jobs: list[Job] = []
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
              restarts: int = 0, recipe: Path | None = None, environment: dict[str, str] | None = None) -> tuple[Run, Job]:  # fmt: skip
        """`ranks`: processes that are started here; `nproc`: processes that `--nproc` starts, again after `restarts` failures."""
        number = next(self.number)
        run = run or Run(self.root / f"run{number}")
        words = ["train", str(recipe or self.recipe), f"train.run={run.folder}", *words_of(overrides or {})]
        if nproc > 1:
            words += ["--nproc", str(nproc)]
        if restarts > 0:
            words += ["--max-restarts", str(restarts)]
        self.jobs.append(Job(words, self.root / f"log{number}", ranks=ranks, variables=environment))
        return run, self.jobs[-1]

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


@pytest.fixture(autouse=True)
def nothing_is_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "trainer" in request.fixturenames:
        trainer = request.getfixturevalue("trainer")
        while trainer.jobs:
            trainer.jobs.pop().close()


@pytest.fixture(scope="session")
def trainer(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    return Trainer(model, data, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def base(trainer: Trainer) -> Run:
    """Ten float32 steps of the recipe as it is."""
    return trainer.run()
