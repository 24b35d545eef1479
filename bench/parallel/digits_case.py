"""The digits demo as parallel benches train it: its data, its model with random weights, and what its blocks cost here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gimbal import arch
from gimbal.dataset import Dataset
from gimbal.demo import digits
from gimbal.generate.programs import find_program
from gimbal.plan import Layout, Mesh, Planner, StateBytes
from training import Recipe, profile

PACKS, PIPELINE_PACKS = 2, 8  # a step's; a pipeline needs more to fill
CAPS = (1280, 0)  # text rows; no cap on pictures


def make_base(folder: Path, steps: int) -> Recipe:
    """The demo's recipe, without its held-out questions and its export."""
    paths = digits.make_data(folder)
    data = folder / "data"
    words = [find_program("gimbal"), "prepare", "--model", paths["model"], "--data", f"digits={paths['train']}"]
    words += ["--out", data]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {
        "model": {"path": str(paths["model"]), "init": "random"},
        "data": {"train": str(data)},
        "balance": {"text_cap": CAPS[0], "packs_per_step": PACKS},
        "optimizer": {"lr": 1.5e-3, "beta2": 0.98},
        "train": {"seed": 1, "max_steps": steps, "threads": 1, "device": "cpu"},
        "checkpoint": {"export_hf": False},
        "log": {"every_steps": 1000},
    }


def planner_of(recipe: Recipe, folder: Path, seconds: float, freeze: Sequence[str] = ()) -> tuple[Planner, float]:
    """With costs measured by two processes at the same time, once in `folder`; and the bytes per second between them."""
    file = folder / "profile.json" if folder.exists() else profile(recipe, folder, 2, seconds)
    table = json.loads(file.read_text())
    index = Dataset(recipe["data"]["train"]).index
    planner = Planner(
        arch.describe(Path(recipe["model"]["path"])), text_rows=index["num_tokens"], vision_rows=index["vision_rows"],
        profile=file, state=StateBytes(4, 0, 4, 8), origin="the digits demo", freeze=freeze,
    )  # fmt: skip
    return planner, float(table["links"]["inside_node"]["bytes_per_second"])


def pipeline_layout(planner: Planner) -> Layout:
    """Two stages by measured cost; nothing is recomputed."""
    packs = planner.pack("gimbal", caps=CAPS, packs_per_step=PIPELINE_PACKS)
    layout = planner.pipeline(Mesh(pp=2), micro_batches=PIPELINE_PACKS).cut("gimbal", "none", packs.works)
    assert layout is not None, "the demo's model fits every machine"
    return layout


def stage_starts(planner: Planner, layout: Layout) -> list[str]:
    """For parallel.stage_starts."""
    return [planner.model.blocks[begin].name for begin in layout.stage_begin[1:-1]]
