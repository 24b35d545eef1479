"""Random ranks without any picture in random micro-batches: no rank waits for another for ever, and the result is that of one
process."""

from __future__ import annotations

import random

import numpy as np
import pytest
from e2e_data import COLOURS, conversation
from e2e_tool import Run, assert_every_sample_once
from mesh_tool import mesh

STEPS = 200
NUM_SAMPLES = 80
CHANGE = {
    "model.dtype": "float64", "train.max_steps": STEPS, "train.timeout_seconds": 30,
    "balance.method": "random", "balance.samples_per_pack": 1, "balance.packs_per_step": 4,
}  # fmt: skip
MESHES = [
    {"dp_shard": 2, "sp": 2},
    pytest.param({"dp_shard": 4}, marks=pytest.mark.slow),
    pytest.param({"pp": 2, "dp_replicate": 2}, marks=pytest.mark.slow),
    pytest.param({"tp": 2, "sp": 2}, marks=pytest.mark.slow),
    pytest.param({"pp": 2, "tp": 2}, marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def rare_pictures(prepare):
    """One sample in four has a picture, drawn at random; some samples are very short."""
    numbers = random.Random(5)
    talks = []
    for _ in range(NUM_SAMPLES):
        images = [f"{numbers.choice(COLOURS)}.png"] if numbers.random() < 0.25 else []
        talks.append(conversation(images, "which? " * numbers.randint(1, 6), numbers.choice(COLOURS)))
    return prepare({"rare": talks})


@pytest.fixture(scope="module")
def settings(rare_pictures, mesh_model):
    return {**CHANGE, "data.train": str(rare_pictures), "model.path": str(mesh_model)}


@pytest.fixture(scope="module")
def alone(trainer, settings) -> Run:
    return trainer.run(settings)


@pytest.mark.parametrize("axes", MESHES, ids=lambda axes: "_".join(f"{axis}{size}" for axis, size in axes.items()))
def test_ranks_without_pictures(trainer, settings, alone, axes):
    run = trainer.run({**settings, **mesh(**axes)}, ranks=4)
    rows = np.array([[rank["vision_rows"] for rank in line["ranks"]] for line in run.lines("train")])
    assert rows.shape == (STEPS, 4)
    if axes.get("dp_shard", 1) * axes.get("dp_replicate", 1) > 1:
        # Each rank has steps with pictures in which another has none, and the other way round.
        unlike = rows[(rows == 0).any(axis=1) & (rows > 0).any(axis=1)]
        assert len(unlike) > STEPS / 10 and (unlike == 0).any(axis=0).all() and (unlike > 0).any(axis=0).all()
    assert_every_sample_once(run, NUM_SAMPLES)
    assert run.packs() == alone.packs()
    # Steps in which nobody has a picture are among them, too.
    assert (rows == 0).all(axis=1).any()
    np.testing.assert_allclose(run.losses, alone.losses, rtol=1e-9, atol=0)
    assert np.mean(run.losses[-10:]) < 0.5 * run.losses[0]
