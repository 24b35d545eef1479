"""Fixtures: small model folders, pictures and source files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "python"))

import pytest
from PIL import Image
from prepare_samples import CORPUS, write_lines

@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders by name: internvl (one tile), tiled (cut pictures), qwen2, qwen3, llama."""
    from gimbal.demo.model_folder import make_model_folder

    root = tmp_path_factory.mktemp("models")
    folders = {family: make_model_folder(root / family, family=family, corpus=CORPUS) for family in ("qwen2", "qwen3", "llama")}
    folders["internvl"] = make_model_folder(root / "internvl", corpus=CORPUS)
    folders["tiled"] = make_model_folder(root / "tiled", corpus=CORPUS, sizes={"image.crop_to_patches": True})
    return folders


@pytest.fixture()
def folder(tmp_path):
    """A working folder with pictures a.png (40 x 16), b.jpg (33 x 64) and c.webp (16 x 16)."""
    Image.new("RGB", (40, 16), "red").save(tmp_path / "a.png")
    Image.new("RGB", (33, 64), "blue").save(tmp_path / "b.jpg")
    Image.new("RGB", (16, 16), "green").save(tmp_path / "c.webp")
    return tmp_path


@pytest.fixture()
def build(models, folder):
    """build(samples, model=...) prepares samples in `folder` and returns a Dataset."""
    from gimbal.dataset import Dataset
    from gimbal.prepare import PrepareConfig, Source, prepare

    count = iter(range(1000))

    def run(samples, model="internvl", **options):
        number = next(count)
        data = write_lines(folder / f"data{number}.jsonl", samples)
        out = folder / f"out{number}"
        prepare(PrepareConfig(str(models[model]), [Source("s", [data])], str(out), **{"workers": 1, **options}))
        return Dataset(out)

    return run
