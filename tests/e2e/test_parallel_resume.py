"""A checkpoint of any mesh goes on on any other, and a run that is killed at any moment goes on from its last complete one."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
from e2e_tool import Run, assert_every_sample_once, assert_same_bits
from gimbal.__main__ import run as gimbal
from mesh_tool import mesh

STEPS, HALF = 20, 10
NUM_SAMPLES = 60  # of the fixture `data`
FIRST = {"pp": 2, "dp_replicate": 2}
CHANGE = {"train.max_steps": STEPS, "checkpoint.every_steps": HALF, "checkpoint.keep_last": 5, "optimizer.eps": 1e-4}
# float32: other meshes add in another order. Ten steps of a few eps (1.2e-7) each; optimizer.eps lies above the noise of
# gradients that are zero but for rounding, as in test_same_result.py.
TOLERANCE = 2e-6
ORDER = ("step", "epoch", "step_in_epoch", "samples", "tokens", "loss_tokens", "images", "vision_rows")


def num_ranks(axes):
    return int(np.prod(list(axes.values())))


@pytest.fixture(scope="module")
def on_mesh(trainer, mesh_model):
    def run(axes, change, run=None, start=False, **options):
        change = {"model.path": str(mesh_model), **mesh(**axes), **change}
        return (trainer.start if start else trainer.run)(change, run=run, ranks=num_ranks(axes), **options)

    return run


@pytest.fixture(scope="module")
def whole(on_mesh):
    """Twenty steps, with checkpoints after 10 and 20."""
    return on_mesh(FIRST, CHANGE)


def half_of(whole, folder):
    """A copy of the run as it was after its first checkpoint, but with all its lines of metrics."""
    run = Run(folder)
    shutil.copytree(whole.folder, run.folder)
    shutil.rmtree(run.folder / "checkpoints" / f"step-{STEPS:08d}")
    (run.folder / "summary.json").unlink()
    assert [path.name for path in run.checkpoints()] == [f"step-{HALF:08d}"]
    return run


@pytest.mark.parametrize(
    "axes",
    [FIRST, {"dp_shard": 4}, {"tp": 2, "sp": 2}, {}, {"pp": 4}],
    ids=lambda axes: "_".join(f"{axis}{size}" for axis, size in axes.items()) or "one_process",
)
def test_a_checkpoint_goes_on_on_any_mesh(on_mesh, whole, tmp_path, axes):
    run = half_of(whole, tmp_path / "run")
    on_mesh(axes, CHANGE, run=run)
    for column in ORDER:
        assert run.column(column) == whole.column(column), column
    assert run.column("loss")[:HALF] == whole.column("loss")[:HALF]
    assert_every_sample_once(run, NUM_SAMPLES)
    assert run.packs() == whole.packs()
    if axes == FIRST:
        assert run.samples() == whole.samples()
        assert run.column("loss") == whole.column("loss") and run.column("grad_norm") == whole.column("grad_norm")
        for kind in ("parameters", "optimizer"):
            assert_same_bits(run.tensors(kind), whole.tensors(kind))
        return
    np.testing.assert_allclose(run.losses, whole.losses, rtol=TOLERANCE)
    weights, expected = run.tensors(), whole.tensors()
    assert weights.keys() == expected.keys()
    for name, values in expected.items():
        reach = max(np.linalg.norm(values), STEPS * 2e-3 * values.size**0.5)
        assert np.linalg.norm(weights[name] - values) <= 10 * TOLERANCE * reach, name


def test_offloaded_optimizer_state_is_the_same(on_mesh, tmp_path):
    """The state is saved and found again from where it lies. Here the device is the host: not a bit may differ."""
    axes, offload = {"dp_shard": 2}, {"parallel.offload_optimizer": True}
    plain = on_mesh(axes, CHANGE)
    offloaded = on_mesh(axes, {**CHANGE, **offload})
    resumed = half_of(offloaded, tmp_path / "run")
    on_mesh(axes, {**CHANGE, **offload}, run=resumed)
    for run in (offloaded, resumed):
        for column in (*ORDER, "loss", "grad_norm"):
            assert run.column(column) == plain.column(column), column
        for step in (HALF, STEPS):
            for kind in ("parameters", "optimizer"):
                assert_same_bits(run.tensors(kind, step), plain.tensors(kind, step))


def check_every_sample_once(run, reference, num_samples):
    """By the log of the sampler: positions without gap or repetition, and which samples each step held."""
    assert_every_sample_once(run, num_samples)
    assert run.packs() == reference.packs()
    assert run.column("step") == list(range(1, len(reference.column("step")) + 1))
    positions = list(zip(run.column("epoch"), run.column("step_in_epoch")))
    assert len(set(positions)) == len(positions) and positions == sorted(positions)
    for column in ORDER:
        assert run.column(column) == reference.column(column), column
    # The packs of each data rank, whatever mesh ran them: the same step holds the same cost in all.
    for ours, theirs in zip(run.lines("train"), reference.lines("train")):
        assert whole_cost(ours) == pytest.approx(whole_cost(theirs), rel=1e-12)
    epochs = [sum(line["samples"] for line in run.lines("train") if line["epoch"] == epoch) for epoch in range(positions[-1][0])]
    assert epochs == [num_samples] * len(epochs) and len(epochs) >= 2
    assert run.state()["samples"] == sum(run.column("samples"))


def whole_cost(line):
    return sum({rank.get("data_rank", rank["rank"]): rank["cost"] for rank in line["ranks"]}.values())


def often_killed(on_mesh, run, change, meshes, kills, random_moments):
    """Starts the run on one mesh after another and kills it at random moments, also while it saves; then lets it end."""
    done_kills, turns = 0, itertools.cycle(meshes)
    while done_kills < kills:
        before = len(run.lines("train"))
        _, job = on_mesh(next(turns), change, run=run, start=True)
        # A wait that the tail of training may end early, then a moment of any phase of a step or a save.
        target = before + random_moments.randint(1, 6)
        while all(process.poll() is None for process in job.processes) and len(run.lines("train")) < target:
            time.sleep(0.005)
        time.sleep(random_moments.uniform(0, 0.08))
        job.signal(signal.SIGKILL)
        codes = {process.wait() for process in job.processes}
        job.close()
        assert codes <= {0, -signal.SIGKILL}, job.log.read_text()
        if codes == {0}:
            break
        done_kills += 1
        # Whatever the kill cut short: what looks complete is complete and undamaged.
        for checkpoint in run.checkpoints():
            assert gimbal(["inspect", str(checkpoint), "--verify"]) == 0, checkpoint
    on_mesh(meshes[0], change, run=run)
    return done_kills


@pytest.mark.parametrize("kills", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_killed_at_random_moments_on_changing_meshes(on_mesh, trainer, kills):
    seed = int(os.environ.get("GIMBAL_KILL_SEED", "7"))
    steps = 30 + 6 * kills
    # Saving every second step, so that many kills fall into a save.
    change = {"train.max_steps": steps, "optimizer.eps": 1e-4, "checkpoint.every_steps": 2, "train.timeout_seconds": 20}
    reference = on_mesh({}, change)
    run = Run(trainer.root / f"killed_{kills}_times")
    meshes = [{"dp_shard": 2}, {"pp": 2}, {"sp": 2}, {"tp": 2}]
    done = often_killed(on_mesh, run, change, meshes, kills, random.Random(seed))
    assert done >= 2 * kills // 3
    check_every_sample_once(run, reference, NUM_SAMPLES)
    # Rounding grows over the steps.
    np.testing.assert_allclose(run.losses, reference.losses, rtol=steps * 1e-6)


@pytest.mark.slow
def test_killed_at_random_moments_on_one_mesh(on_mesh, trainer):
    change = {"train.max_steps": 200, "checkpoint.every_steps": 2, "train.timeout_seconds": 20}
    reference = on_mesh(FIRST, change)
    run = Run(trainer.root / "killed_on_one_mesh")
    done = often_killed(on_mesh, run, change, [FIRST], 30, random.Random(11))
    assert done >= 20
    check_every_sample_once(run, reference, NUM_SAMPLES)
    assert run.samples() == reference.samples()
    assert run.column("loss") == reference.column("loss")
    for kind in ("parameters", "optimizer"):
        assert_same_bits(run.tensors(kind), reference.tensors(kind))
