"""The same data and seed give the same training, however it is divided up; the same arithmetic gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from e2e_data import conversation
from e2e_tool import assert_same_bits

STEPS, LR = 10, 2e-3
# What other ways of dividing up change is the order of sums, so results differ by rounding: eps of the type is 1e-16 and
# 6e-8, a few times that per step is seen. AdamW divides a gradient by its own size plus eps. A gradient that is zero but
# for rounding (vision.*.k_proj.bias: softmax doesn't see what is added to all keys) would become a full step in a random
# direction, so eps lies above that noise and below the real gradients.
TOLERANCE = {"float64": 1e-9, "float32": 1e-6}
EPS = {"float64": 1e-8, "float32": 1e-4}
# Packs of 1, 2 or 3 samples, four to a step; and one pack of about 10 samples to a step.
FOUR_PACKS = {"balance.text_cap": 192, "balance.packs_per_step": 4}
ONE_PACK = {"balance.text_cap": 900, "balance.packs_per_step": 1}
KINDS = {"four": FOUR_PACKS, "one": ONE_PACK}


@pytest.fixture(scope="module")
def reference(trainer):
    """One process, each pack in one piece."""
    made = {}

    def get(dtype, kind):
        if (dtype, kind) not in made:
            made[dtype, kind] = trainer.run(settings(dtype, kind))
        return made[dtype, kind]

    return get


def settings(dtype, kind):
    return {"model.dtype": dtype, "optimizer.eps": EPS[dtype], "optimizer.lr": LR, "train.max_steps": STEPS, **KINDS[kind]}


def weight_differences(a, b):
    """Norm of each tensor's difference over its norm, or over the way that AdamW can have moved it if that is more."""
    wide = {name: (a[name].astype(np.float64), b[name].astype(np.float64)) for name in a}
    return {
        name: np.linalg.norm(x - y) / max(np.linalg.norm(x), STEPS * LR * x.size**0.5) for name, (x, y) in wide.items()
    }  # fmt: skip


def check_same(run, reference, dtype):
    assert len(run.losses) == STEPS
    for exact in ("samples", "tokens", "loss_tokens", "images"):
        assert run.column(exact) == reference.column(exact)
    np.testing.assert_allclose(run.losses, reference.losses, rtol=TOLERANCE[dtype], atol=0)
    weights, expected = run.tensors(), reference.tensors()
    assert weights.keys() == expected.keys()
    too_far = {name: d for name, d in weight_differences(weights, expected).items() if not d <= TOLERANCE[dtype]}
    assert not too_far


DIVISIONS = [
    ("four", {}, 2),
    ("four", {}, 4),
    ("four", {"balance.micro_batches": 0}, 1),
    ("four", {"balance.micro_batches": 2}, 2),
    ("one", {"balance.micro_batches": 4}, 1),
    ("one", {"balance.micro_batches": 0}, 1),
    ("one", {"balance.micro_batches": 4}, 2),  # one pack a step: the second rank has nothing, ever
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind, change, ranks", DIVISIONS)
def test_loss_and_weights_do_not_depend_on_the_division(trainer, reference, dtype, kind, change, ranks):
    run = trainer.run({**settings(dtype, kind), **change}, ranks=ranks)
    assert len(run.lines("train")[0]["ranks"]) == ranks
    check_same(run, reference(dtype, kind), dtype)


def test_nproc_starts_the_same_training(trainer, reference):
    run = trainer.run(settings("float64", "four"), nproc=2)
    assert len(run.lines("train")[0]["ranks"]) == 2
    check_same(run, reference("float64", "four"), "float64")


def test_the_comparison_sees_other_training(trainer, reference):
    other = trainer.run({**settings("float64", "four"), "train.seed": 4})
    expected = reference("float64", "four")
    assert np.abs(other.losses / expected.losses - 1).min() > 1e-6
    differences = weight_differences(other.tensors(), expected.tensors())
    assert np.median(list(differences.values())) > 1e-2


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model.recompute": "full"},
        {"model.recompute": "full", "model.recompute_blocks": ["vision.*", "text.1"]},
        {"data.workers": 2},
        {"data.workers": 3, "data.prefetch_packs": 1},
    ],
    ids=["again", "recompute", "recompute_some", "two_readers", "no_reading_ahead"],
)
def test_same_arithmetic_gives_the_same_bits(trainer, base, change):
    run = trainer.run(change)
    for column in ("loss", "grad_norm", "lr", "samples", "tokens"):
        assert run.column(column) == base.column(column)
    for kind in ("parameters", "optimizer"):
        assert_same_bits(run.tensors(kind), base.tensors(kind))


def test_recompute_beside_frozen_parts_gives_the_same_bits(trainer):
    for patterns in (["vision.*"], ["text.0", "vision.embed*"]):
        keep, full = (trainer.run({"model.freeze": patterns, "model.recompute": level}) for level in ("keep", "full"))
        assert keep.column("loss") == full.column("loss")
        assert_same_bits(keep.tensors(), full.tensors())


def test_evaluating_and_saving_leave_the_training_as_it_is(trainer, base, held_out):
    run = trainer.run({"data.eval": str(held_out), "evaluate.every_steps": 3, "evaluate.max_new_tokens": 3, "checkpoint.every_steps": 2})
    assert [line["step"] for line in run.lines("eval")] == [3, 6, 9, 10]
    assert run.column("loss") == base.column("loss")
    assert_same_bits(run.tensors("optimizer"), base.tensors("optimizer"))


def test_two_ranks_give_the_same_bits_again(trainer):
    first, second = (trainer.run({"train.max_steps": 6}, ranks=2) for _ in range(2))
    assert first.column("loss") == second.column("loss")
    assert_same_bits(first.tensors(), second.tensors())


def test_a_rank_that_never_has_a_picture(trainer, prepare):
    # Two packs of one sample each make the only step of an epoch; the dearer pack always has the same place.
    data = prepare({"s": [conversation(["red.png", "blue.jpg", "green.png"], "which colours?", "red blue green"),
                          conversation([], "which colours?", "none")]})  # fmt: skip
    change = {"data.train": str(data), "balance.samples_per_pack": 1, "balance.packs_per_step": 2, "train.max_steps": 50,
              "train.timeout_seconds": 30, "model.dtype": "float64"}  # fmt: skip
    single, double = trainer.run(change), trainer.run(change, ranks=2)
    rows = np.array([[rank["vision_rows"] for rank in line["ranks"]] for line in double.lines("train")])
    assert rows.shape == (50, 2) and sorted(map(tuple, rows.T)) == [(0,) * 50, (3,) * 50]
    np.testing.assert_allclose(double.losses, single.losses, rtol=1e-9, atol=0)
    assert single.losses[-1] < 0.7 * single.losses[0]
