"""What is trained and on what: freezing, parameter groups, stages, weights of sources, epochs, number formats."""

from __future__ import annotations

import json
import math
import signal

import numpy as np
import pytest
from e2e_data import colour_talks
from e2e_tool import Run, assert_same_bits


@pytest.fixture(scope="module")
def initial(trainer):
    """The random weights that runs of this recipe start from: a learning rate of 0 leaves them."""
    return trainer.run({"optimizer.lr": 0, "train.max_steps": 1}).tensors()


def parts(tensors, *prefixes):
    chosen = {name: values for name, values in tensors.items() if name.startswith(prefixes)}
    assert chosen
    return chosen


def changed(before, after):
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_frozen_parameters_keep_their_bits_and_others_do_not(trainer, initial, dtype):
    run = trainer.run({"model.freeze": ["vision.*", "text.0.mlp.*"], "model.dtype": dtype})
    weights = run.tensors()
    frozen = parts(weights, "vision.", "text.0.mlp.")
    assert_same_bits(frozen, {name: initial[name] for name in frozen})
    assert changed(initial, weights) == weights.keys() - frozen.keys()
    moments = run.tensors("optimizer")
    assert {name.rsplit(".", 1)[0] for name in moments} == weights.keys() - frozen.keys()
    (summary,) = run.lines("summary")
    assert sum(values.size for values in weights.values()) == summary["parameters"]
    assert sum(values.size for name, values in weights.items() if name not in frozen) == summary["trainable_parameters"]


def test_freezing_does_not_change_the_first_loss(trainer, base):
    run = trainer.run({"model.freeze": ["vision.*"], "train.max_steps": 1})
    assert run.losses[0] == base.losses[0]


def test_all_frozen_is_refused(trainer):
    assert "model.freeze" in trainer.refused({"model.freeze": ["*"]})


def test_groups_have_their_own_rate(trainer, initial, base):
    none = trainer.run({"optimizer.groups": [{"pattern": "vision.*", "lr_scale": 0}]}).tensors()
    vision = parts(none, "vision.")
    assert_same_bits(vision, {name: initial[name] for name in vision})
    assert changed(initial, none) == none.keys() - vision.keys()
    # The first step of AdamW moves each weight by the rate: ten times the rate, ten times the way.
    one = {"train.max_steps": 1, "optimizer.warmup_steps": 0, "optimizer.weight_decay": 0}
    slow = trainer.run({**one, "optimizer.groups": [{"pattern": "text.*", "lr_scale": 0.1}]}).tensors()
    fast = trainer.run(one).tensors()
    name = "text.0.mlp.up_proj.weight"
    way = [np.linalg.norm(weights[name] - initial[name]) for weights in (slow, fast)]
    assert way[1] / way[0] == pytest.approx(10, rel=1e-3)
    name = "vision.0.mlp.fc1.weight"
    assert slow[name].tobytes() == fast[name].tobytes()


def test_groups_have_their_own_weight_decay(trainer):
    one = {"train.max_steps": 1, "optimizer.warmup_steps": 0}
    without = trainer.run({**one, "optimizer.weight_decay": 0}).tensors()
    group = {"optimizer.groups": [{"pattern": "text.*", "weight_decay": 0.5}]}
    within = trainer.run({**one, "optimizer.weight_decay": 0, **group}).tensors()
    # Norms and biases (vectors) are left out of decay.
    assert changed(without, within) == {name for name in without if name.startswith("text.") and without[name].ndim > 1}


# Stages.


@pytest.fixture(scope="module")
def two_stages(trainer):
    def write(name, first, second):
        recipe = json.loads(trainer.recipe.read_text())
        recipe["stages"] = [{"name": "one", **first}, {"name": "two", **second}]
        path = trainer.root / f"{name}.yaml"
        path.write_text(json.dumps(recipe))
        return path

    return write


def test_a_stage_starts_from_the_weights_before_it(trainer, two_stages, base, held_out):
    recipe = two_stages("still", {}, {"optimizer": {"lr": 0}, "train": {"max_steps": 2}, "checkpoint": {"export_hf": True}})
    run = trainer.run({"data.eval": str(held_out), "evaluate.generate": False}, recipe=recipe)
    assert run.json("stages.json") == ["one", "two"]
    one, two = Run(run.folder / "one"), Run(run.folder / "two")
    assert_same_bits(one.tensors(), base.tensors())
    assert_same_bits(two.tensors(), one.tensors())
    assert one.column("step") == list(range(1, 11)) and two.column("step") == [1, 2]
    assert one.json("eval.json")["loss"] == two.json("eval.json")["loss"]
    assert one.json("summary.json")["finished"] and two.json("summary.json")["finished"]
    assert (two.folder / "hf/model.safetensors").exists() and not (one.folder / "hf").exists()


def test_going_on_in_the_second_stage(trainer, two_stages):
    recipe = two_stages("long", {"train": {"max_steps": 5}, "model": {"freeze": ["text.*"]}}, {"train": {"max_steps": 100}})
    whole = trainer.run(recipe=recipe)
    run, job = trainer.start(recipe=recipe)
    second = Run(run.folder / "two")
    job.wait_until(lambda: len(second.lines("train")) >= 5)
    job.signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 143 and 5 <= second.state()["step"] < 100, ended.stderr
    first = (run.folder / "one/metrics.jsonl").read_bytes()
    trainer.run(run=run, recipe=recipe)
    assert (run.folder / "one/metrics.jsonl").read_bytes() == first
    assert second.column("loss") == Run(whole.folder / "two").column("loss")
    assert_same_bits(second.tensors(), Run(whole.folder / "two").tensors())


def test_an_override_of_one_stage(trainer, two_stages):
    recipe = two_stages("short", {}, {})
    run = trainer.run({"train.max_steps": 3, "stages.one.train.max_steps": 2}, recipe=recipe)
    steps = [len(Run(run.folder / name).lines("train")) for name in ("one", "two")]
    assert steps == [2, 3]


@pytest.mark.parametrize(
    "second, word",
    [({"data": {"train": "/nowhere/data"}}, "/nowhere/data"), ({"data": {"eval": "/nowhere/data"}}, "/nowhere/data"),
     ({"model": {"freeze": ["nothing.*"]}}, "nothing.*"), ({"optimizer": {"groups": [{"pattern": "nothing.*"}]}}, "nothing.*")],
    ids=["data", "eval", "freeze", "groups"],
)  # fmt: skip
def test_mistakes_of_the_second_stage_are_found_before_the_first(trainer, two_stages, second, word):
    recipe = two_stages("mistaken", {"train": {"max_steps": 3}}, second)
    run, ended = trainer.end(recipe=recipe)
    assert ended.code == 2 and word in ended.stderr
    assert not Run(run.folder / "one").lines("train"), "the first stage was trained before"


# Data.

EPOCH = {"train.max_steps": 0, "train.epochs": 1}


@pytest.fixture(scope="module")
def sources(prepare):
    """Source `a` has 12 samples, source `b` 20 other ones."""
    return prepare({"a": colour_talks(0, 12), "b": colour_talks(12, 20)})


def tokens_of(folder, source):
    from gimbal.dataset import Dataset

    index = Dataset(folder).index
    return int(index["num_tokens"][index["source"] == source].sum())


def drawn(trainer, data, weights):
    run = trainer.run({**EPOCH, "data.train": str(data), "data.weights": weights})
    return sum(run.column("samples")), sum(run.column("tokens"))


def test_weights_of_sources_change_how_often_samples_are_drawn(trainer, sources):
    a, b = tokens_of(sources, 0), tokens_of(sources, 1)
    assert drawn(trainer, sources, {}) == (32, a + b)
    assert drawn(trainer, sources, {"b": 0}) == (12, a)
    assert drawn(trainer, sources, {"a": 2.0}) == (44, 2 * a + b)
    assert drawn(trainer, sources, {"a": 3.0, "b": 0.0}) == (36, 3 * a)
    samples, tokens = drawn(trainer, sources, {"a": 1.0, "b": 0.5})
    assert 12 + 4 <= samples <= 12 + 16 and a < tokens < a + b


def test_weights_of_prepare_hold_until_the_recipe_says_otherwise(trainer, prepare):
    data = prepare({"a": colour_talks(0, 12), "b": colour_talks(12, 20)}, weights={"a": 2.0})
    assert drawn(trainer, data, {})[0] == 44
    assert drawn(trainer, data, {"a": 1.0})[0] == 32


METHODS = [
    {}, {"balance.packs_per_slot": 2}, {"balance.method": "isf"}, {"balance.method": "bfd"},
    {"balance.method": "random", "balance.samples_per_pack": 3}, {"balance.method": "length", "balance.samples_per_pack": 3},
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=["gimbal", "slots", "isf", "bfd", "random", "length"])
def test_an_epoch_has_each_sample_once(trainer, data, method):
    counts = json.loads((data / "manifest.json").read_text())["counts"]
    run = trainer.run({"train.max_steps": 0, "train.epochs": 3, "balance.text_cap": 600, **method}, ranks=2)
    for epoch in range(3):
        lines = [line for line in run.lines("train") if line["epoch"] == epoch]
        for column, count in (("samples", "samples"), ("tokens", "tokens"), ("loss_tokens", "loss_tokens"), ("images", "media_refs")):
            assert sum(line[column] for line in lines) == counts[count]
        assert [line["step_in_epoch"] for line in lines] == list(range(len(lines)))
    for total in ("samples", "tokens", "loss_tokens"):
        assert run.state()[total] == 3 * counts[total], total


def test_samples_above_a_cap_are_left_out_or_alone(trainer, prepare):
    data = prepare({"short": colour_talks(0, 12)})
    recipe = {"train.max_steps": 0, "train.epochs": 1, "data.train": str(data), "balance.vision_cap": 2}
    left_out = trainer.run({**recipe, "balance.oversize": "reject"})
    summary = left_out.lines("summary")[0]
    drawn = sum(line["samples"] for line in left_out.lines("train"))
    assert 0 < summary["samples_rejected"] < 12
    assert summary["samples_in"] == 12 and summary["samples_packed"] == drawn == 12 - summary["samples_rejected"]
    assert len(summary["rejected"]) == min(10, summary["samples_rejected"])
    assert all("vision rows, cap 2" in reason for reason in summary["rejected"])
    alone = trainer.run({**recipe, "balance.oversize": "alone"})
    assert sum(line["samples"] for line in alone.lines("train")) == 12
    assert alone.lines("summary")[0]["samples_rejected"] == 0


def test_a_part_of_an_epoch(trainer):
    whole, half = (trainer.run({**EPOCH, "train.epochs": epochs}) for epochs in (1, 0.5))
    assert len(half.losses) == round(len(whole.losses) / 2)


def test_another_seed_gives_another_order(trainer, base):
    other = trainer.run({"train.seed": 9})
    assert other.column("tokens") != base.column("tokens")


# Number formats and the schedule.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_lowers_the_loss(trainer, dtype):
    run = trainer.run({"model.dtype": dtype, "train.max_steps": 60})
    assert np.isfinite(run.losses).all()
    assert np.mean(run.losses[-5:]) < 0.55 * run.losses[0]


def test_bfloat16_stays_near_float32(trainer, base):
    run = trainer.run({"model.dtype": "bfloat16"})
    # 8 bits of mantissa: 1 / 256 a rounding, averaged over hundreds of loss tokens.
    np.testing.assert_allclose(run.losses, base.losses, rtol=4e-3)
    assert run.column("loss") != base.column("loss")
    assert {values.dtype for values in run.tensors().values()} == {np.dtype("float32")}


def test_the_learning_rate_follows_its_schedule(trainer):
    run = trainer.run({"optimizer.lr": 1e-3, "optimizer.warmup_steps": 4, "optimizer.min_lr_ratio": 0.1, "train.max_steps": 12})
    rates = run.column("lr")
    assert rates[:4] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert rates == rates[:4] + sorted(rates[4:], reverse=True)
    assert 1e-4 <= rates[-1] < 2.2e-4


def test_clipping_bounds_the_step(trainer, initial):
    one = {"train.max_steps": 1, "optimizer.warmup_steps": 0, "optimizer.eps": 1e6, "optimizer.lr": 1e6, "optimizer.weight_decay": 0}
    clipped, free = trainer.run({**one, "optimizer.clip_norm": 0.01}), trainer.run({**one, "optimizer.clip_norm": 0})
    # With a huge eps the step is the gradient itself (times lr / eps).
    ways = [math.sqrt(sum(np.sum((w[n].astype(np.float64) - initial[n]) ** 2) for n in w)) for w in (clipped.tensors(), free.tensors())]
    assert ways[0] == pytest.approx(0.01, rel=1e-3)
    assert ways[1] == pytest.approx(free.column("grad_norm")[0], rel=1e-3)
    assert clipped.column("grad_norm") == free.column("grad_norm")


def test_data_ranks_without_packs_are_told(trainer):
    run, ended = trainer.end({"balance.packs_per_step": 1, "train.max_steps": 0, "train.epochs": 1}, ranks=2)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count("1 of them always idle. Set balance.packs_per_step=2") == 1  # rank 0 alone
    # What is said before the first step is what the steps have.
    assert run.lines("summary")[0]["waste"] == 0.5 and set(run.column("waste")) == {0.5}
    assert "waste between ranks 50.0%" in ended.stderr
