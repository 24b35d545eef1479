"""A tiny InternVL of `transformers` with random weights, and conversations for it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS / "e2e"))  # the same ways to start `gimbal` and to read what it leaves

import numpy as np
import pytest
import torch
from e2e_data import conversation, make_model
from e2e_tool import Job, Run, words_of
from PIL import Image

NUM_SAMPLES = 64
SIZES = {
    "vision.hidden_size": 24, "vision.num_layers": 2, "vision.num_heads": 2, "vision.intermediate_size": 48,
    "text.hidden_size": 32, "text.num_layers": 3, "text.num_heads": 4, "text.num_key_value_heads": 2, "text.intermediate_size": 64,
}  # fmt: skip


@pytest.fixture(scope="session")
def oracle_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the weights of `transformers`."""
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = make_model(tmp_path_factory.mktemp("oracle") / "model", sizes=SIZES)
    torch.manual_seed(5)
    AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def oracle_data(oracle_model: Path) -> Path:
    """Conversations about pictures of exactly one tile: nothing is resized, so that all see the same pixels."""
    from gimbal.prepare import PrepareConfig, Source, prepare

    root = oracle_model.parent
    random = np.random.default_rng(7)
    talks = []
    for i in range(NUM_SAMPLES):
        names = [f"{i}_{j}.png" for j in range([0, 1, 0, 2][i % 4])]
        for name in names:
            Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(root / name)
        words = " ".join(random.choice(["red", "green", "blue", "white", "none"], 1 + i % 9))
        talks.append(conversation(names, f"which {words}?", " ".join(reversed(words.split()))))
    (root / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks), encoding="utf-8")
    config = PrepareConfig(str(oracle_model), [Source("talks", [str(root / "talks.jsonl")], 1.0)], str(root / "data"), workers=1)
    prepare(config)
    return root / "data"


@pytest.fixture(scope="session")
def train(oracle_model: Path, oracle_data: Path) -> Callable[..., Run]:
    """train(name, overrides) -> the finished run of two processes."""

    def run(name: str, overrides: dict[str, Any]) -> Run:
        root = oracle_model.parent
        settings = {
            "model.path": str(oracle_model), "data.train": str(oracle_data), "train.device": "cpu", "train.threads": 1,
            "train.timeout_seconds": 60, "checkpoint.export_hf": False, "train.run": str(root / name), **overrides,
        }  # fmt: skip
        recipe = root / "empty.yaml"
        recipe.write_text("{}")
        job = Job(["train", str(recipe), *words_of(settings), "--nproc", "2"], root / f"{name}.log")
        ended = job.wait()
        assert ended.code == 0, ended.stderr
        return Run(root / name)

    return run
