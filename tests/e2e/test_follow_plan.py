"""Training that follows a plan.json: its caps and recompute levels, its predictions, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from e2e_data import TINY, make_model
from e2e_tool import assert_same_bits
from e2e_tool import run as program

# vision.embed, vision.0, projector, text.embed, text.0, text.1, text.norm, text.head
EVERY_LEVEL = ["keep", "attention", "full", "keep", "mlp", "full", "keep", "keep"]


def make_plan(trainer, out: Path, devices: int = 1, more: Sequence[str] = (), **axes: int) -> Path:
    """A plan for the tests' recipe; data sheets stand in for a profile. Axes that are not given are 1."""
    words = ["plan", trainer.recipe, "--hardware", "a100-80g", "--devices", devices, "--out", out, "train.run=unused"]
    for axis in ("pp", "tp", "sp", "ep", "dp_shard"):
        words += ["--" + axis.replace("_", "-"), axes.get(axis, 1)]
    ended = program([*words, *more], out.with_suffix(".log"))
    assert ended.code == 0, ended.stderr
    return out


@pytest.fixture(scope="module")
def plan(trainer, tmp_path_factory) -> Path:
    return make_plan(trainer, tmp_path_factory.mktemp("plan") / "plan.json")


@pytest.fixture(scope="module")
def two_rank_plan(trainer, tmp_path_factory) -> Path:
    return make_plan(trainer, tmp_path_factory.mktemp("plan2") / "plan.json", devices=2)


def blocks_of(plan: Path) -> int:
    return sum(stage["num_blocks"] for stage in json.loads(plan.read_text())["stages"])


def changed(plan: Path, out: Path, levels: list[str] | None = None, **keys: Any) -> Path:
    """The plan with other recompute levels, one per block, and other values at dotted keys (a__b)."""
    content = json.loads(plan.read_text())
    if levels is not None:
        content["stages"][0]["recompute"] = [{"level": level, "num_blocks": 1} for level in levels]
    for path, value in keys.items():
        *sections, last = path.split("__")
        place = content
        for section in sections:
            place = place[int(section) if section.isdigit() else section]
        place[last] = value
    out.write_text(json.dumps(content))
    return out


def test_caps_and_levels_are_the_plans_and_change_no_bit(trainer, base, plan, tmp_path):
    mixed = changed(plan, tmp_path / "mixed.json", EVERY_LEVEL)
    run = trainer.run({"train.plan": str(mixed)})
    assert_same_bits(run.tensors(), base.tensors())
    assert run.column("loss") == base.column("loss")
    recipe = yaml.safe_load((run.folder / "recipe.yaml").read_text())
    assert recipe["train"]["plan"] == str(run.folder / "plan.json")
    assert recipe["balance"]["text_cap"] == 192 and recipe["balance"]["packs_per_step"] == 4
    groups = {group["blocks"]: group["level"] for group in recipe["model"]["recompute_groups"]}
    assert groups == {"vision.0": "attention", "projector": "full", "text.0": "mlp", "text.1": "full"}
    followed, given = json.loads((run.folder / "plan.json").read_text()), json.loads(mixed.read_text())
    assert followed["packs"] == given["packs"] and followed["mesh"] == given["mesh"]


def test_prediction_is_held_against_what_was_measured(trainer, plan):
    run = trainer.run({"train.plan": str(plan)})
    (line,) = run.lines("prediction")
    assert line["step"] == 10 and line["plan"] == str(plan)
    peak = line["activation_peak_bytes"]
    # The pictures of packs that are read ahead count too, and a tiny model has little besides.
    assert 0.8 < peak["ratio"] < 1.4 and peak["measured"] / peak["predicted"] == pytest.approx(peak["ratio"])
    assert line["step_seconds"]["measured"] > 0 and line["step_seconds"]["predicted"] > 0
    classes = {entry["class"]: entry for entry in line["classes"]}
    assert {"vision_layer", "text_layer", "text_head", "projector"} <= classes.keys()
    assert all(entry[way]["measured"] > 0 for entry in classes.values() for way in ("forward", "backward"))
    assert line["timed_micro_batches"] == 4 * 9  # packs of the steps after the first


def test_without_a_plan_only_memory_is_compared(base):
    (line,) = base.lines("prediction")
    assert "plan" not in line and "step_seconds" not in line
    assert line["activation_peak_bytes"]["measured"] > 0
    (summary,) = base.lines("summary")
    assert summary["fit"]["fits"] is True and summary["fit"]["samples"]
    assert "colours" in summary["fit"]["samples"][0]  # names file and line


def test_recompute_lowers_the_peak(trainer, base, plan, tmp_path):
    full = changed(plan, tmp_path / "full.json", ["full"] * blocks_of(plan))
    peaks = [run.lines("prediction")[0]["activation_peak_bytes"] for run in (trainer.run({"train.plan": str(full)}), base)]
    assert peaks[0]["measured"] < peaks[1]["measured"] and peaks[0]["predicted"] < peaks[1]["predicted"]


def test_caps_come_from_the_plan_alone(trainer, plan, tmp_path):
    recipe = json.loads(trainer.recipe.read_text())
    del recipe["balance"]
    recipe["train"]["plan"] = str(plan)
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    run = trainer.run({"train.max_steps": 2}, recipe=path)
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["balance"]["text_cap"] == 192
    # The resolved recipe is one that runs: it names the plan's values, which agree with the plan.
    again = trainer.run({"train.max_steps": 2}, recipe=run.folder / "recipe.yaml")
    assert again.column("loss") == run.column("loss")


def test_a_run_goes_on_by_its_own_copies(trainer, plan, tmp_path):
    given = changed(plan, tmp_path / "given.json", EVERY_LEVEL)
    run = trainer.run({"train.plan": str(given), "train.max_steps": 2, "optimizer.schedule": "constant"})
    given.rename(tmp_path / "moved.json")
    on = trainer.run({"train.max_steps": 4}, run=run, recipe=run.folder / "recipe.yaml")
    assert on.lines("train")[-1]["step"] == 4
    (copy,) = [line["plan"] for line in on.lines("prediction")[1:]]
    assert copy == str(run.folder / "plan.json")
    # Without a plan nothing says that one is followed.
    free = trainer.run({"train.max_steps": 6, "train.plan": ""}, run=run, recipe=run.folder / "recipe.yaml")
    assert not (free.folder / "plan.json").exists()
    assert yaml.safe_load((free.folder / "recipe.yaml").read_text())["train"]["plan"] == ""


def test_stages_keep_a_copy_each(trainer, plan, tmp_path):
    given = changed(plan, tmp_path / "given.json", EVERY_LEVEL)
    recipe = json.loads(trainer.recipe.read_text())
    recipe["train"]["max_steps"] = 2
    recipe["stages"] = [{"name": "first"}, {"name": "second", "train": {"plan": str(given)}}]
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    run = trainer.run(recipe=path)
    assert not (run.folder / "first" / "plan.json").exists()
    assert (run.folder / "second" / "plan.json").exists()
    given.rename(tmp_path / "moved.json")
    words = {"stages.first.train.max_steps": 3, "stages.second.train.max_steps": 3}
    trainer.run(words, run=run, recipe=run.folder / "recipe.yaml")
    again = yaml.safe_load((run.folder / "second" / "recipe.yaml").read_text())
    assert again["train"]["plan"] == str(run.folder / "second" / "plan.json") and again["train"]["max_steps"] == 3


def test_resume_under_a_plan(trainer, base, plan, tmp_path):
    mixed = changed(plan, tmp_path / "mixed.json", EVERY_LEVEL)
    run = trainer.run({"train.plan": str(mixed), "train.max_steps": 4, "optimizer.schedule": "constant"})
    resumed = trainer.run({"train.plan": str(mixed), "train.max_steps": 8, "optimizer.schedule": "constant"}, run=run)
    whole = trainer.run({"train.max_steps": 8, "optimizer.schedule": "constant"})
    assert_same_bits(resumed.tensors(), whole.tensors())
    assert len(resumed.lines("prediction")) == 2  # one of each part


def test_two_processes_follow_a_plan(trainer, two_rank_plan):
    run = trainer.run({"train.plan": str(two_rank_plan)}, ranks=2)
    alone = trainer.run({"train.max_steps": 10}, ranks=2)
    assert_same_bits(run.tensors(), alone.tensors())
    (line,) = run.lines("prediction")
    assert line["timed_micro_batches"] == 2 * 2 * 9  # ranks, packs of each, steps after the first


def test_another_number_of_processes_is_refused(trainer, two_rank_plan):
    message = trainer.refused({"train.plan": str(two_rank_plan)})
    assert "is for 2 processes, but this run has 1" in message and "--nproc 2" in message


@pytest.mark.parametrize("axis", ["pp", "dp_shard", "sp", "tp"])
def test_the_mesh_of_a_plan_is_followed(trainer, base, tmp_path, axis):
    plan = make_plan(trainer, tmp_path / "plan.json", devices=2, **{axis: 2})
    run = trainer.run({"train.plan": str(plan)}, ranks=2)
    assert run.lines("summary")[-1]["mesh"] == f"{axis} 2"
    assert run.lines("prediction")[-1]["step_seconds"]["predicted"] > 0
    # Sums in another order.
    assert np.allclose(run.losses, base.losses, rtol=1e-5)


def test_a_mesh_for_other_processes_is_refused(trainer, plan, tmp_path):
    sharded = changed(plan, tmp_path / "p.json", mesh__tp=2)
    assert "is for 2 processes, but this run has 1" in trainer.refused({"train.plan": str(sharded)})


def test_another_model_is_refused(trainer, plan, tmp_path):
    other = make_model(tmp_path / "model", sizes={**TINY, "text.intermediate_size": 96})
    assert "other sizes" in trainer.refused({"train.plan": str(plan), "model.path": str(other)})
    deeper = make_model(tmp_path / "deeper", sizes={**TINY, "text.num_layers": 3})
    message = trainer.refused({"train.plan": str(plan), "model.path": str(deeper)})
    assert "blocks, the model in" in message and str(deeper) in message


def test_options_that_say_otherwise_are_refused(trainer, plan):
    message = trainer.refused({"train.plan": str(plan), "balance.text_cap": 500, "model.recompute": "mlp"})
    assert "command line: balance.text_cap is 500; the plan has 192" in message
    assert "command line: model.recompute is mlp for" in message
    assert "Remove these keys" in message


def test_another_way_to_pack_is_refused(trainer, plan):
    message = trainer.refused({"train.plan": str(plan), "balance.method": "isf", "balance.oversize": "alone"})
    assert "command line: balance.method is isf; a plan is made for packs of method gimbal" in message
    assert "command line: balance.oversize is alone; a plan cannot vouch" in message


def test_advice_makes_a_plan_that_fits(trainer, plan, tmp_path):
    """The options that a refusal names, taken by their word."""
    change = {"balance.text_cap": 500, "balance.packs_per_step": 2, "train.max_steps": 1}
    message = trainer.refused({"train.plan": str(plan), **change})
    advice = message.split("`gimbal plan RECIPE ")[1].split("`")[0].split()
    assert advice == "--devices 1 --cap text=500 --packs-per-step 2 --hardware a100-80g --out FILE".split()
    fitting = tmp_path / "fitting.json"
    ended = program(["plan", trainer.recipe, *advice[:-1], fitting], tmp_path / "log")
    assert ended.code == 0, ended.stderr
    trainer.run({"train.plan": str(fitting), **change})


def test_advice_on_axes_makes_a_plan_that_fits(trainer, plan, tmp_path):
    """The plan's devices do not hold the recipe's axes."""
    change = {"parallel.pp": 2, "parallel.tp": 1, "train.max_steps": 1}
    message = trainer.refused({"train.plan": str(plan), **change})
    words = message.split("`gimbal plan RECIPE ")[1].split("`")
    assert words[0] == "--pp 2 --tp 1 --hardware a100-80g --out FILE" and words[1].startswith(", and train with --nproc 2.")
    fitting = tmp_path / "fitting.json"
    ended = program(["plan", trainer.recipe, *words[0].split()[:-1], fitting], tmp_path / "log")
    assert ended.code == 0, ended.stderr
    trainer.run({"train.plan": str(fitting), **change}, ranks=2)


def test_a_recipe_with_axes_plans_and_trains(trainer, tmp_path):
    """`gimbal plan RECIPE` without a word about the mesh gives a plan that `gimbal train RECIPE` takes."""
    recipe = json.loads(trainer.recipe.read_text())
    recipe["parallel"] = {"dp_shard": 2, "sp": 1, "tp": 1, "pp": 1, "weights": "reshard", "schedule": "interleaved"}
    recipe["train"] |= {"plan": str(tmp_path / "plan.json"), "max_steps": 2}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    ended = program(["plan", path, "--hardware", "a100-80g", "--out", tmp_path / "plan.json"], tmp_path / "log")
    assert ended.code == 0, ended.stderr
    run = trainer.run(recipe=path, ranks=2)
    assert run.lines("summary")[-1]["mesh"] == "dp_shard 2"
    assert yaml.safe_load((run.folder / "recipe.yaml").read_text())["parallel"]["weights"] == "reshard"


def test_starts_of_stages_beside_a_plan(trainer, plan, tmp_path):
    """Those of a plan are the plan's: a recipe may repeat them, and nothing else."""
    cut = make_plan(trainer, tmp_path / "plan.json", devices=2, pp=2)
    starts = [json.loads(cut.read_text())["stages"][1]["first"]]
    one_step = {"train.plan": str(cut), "train.max_steps": 1}
    run = trainer.run({**one_step, "parallel.stage_starts": starts}, ranks=2)
    assert run.lines("summary")[-1]["mesh"] == "pp 2"
    message = trainer.refused({"train.plan": str(plan), "parallel.stage_starts": starts})
    assert f"command line: parallel.stage_starts is {starts[0]}; the plan has empty" in message


def test_evaluation_follows_the_plans_mesh(trainer, held_out, tmp_path):
    exported = trainer.run({"train.max_steps": 1, "checkpoint.export_hf": True}).folder / "hf"
    plan = make_plan(trainer, tmp_path / "plan.json", devices=2, pp=2)
    words = ["evaluate", "--model", exported, "--data", held_out, "train.device=cpu", "train.threads=1",
             "evaluate.generate=false", "balance.text_cap=192"]  # fmt: skip
    alone = program(words, tmp_path / "log")
    both = program([*words, f"train.plan={plan}"], tmp_path / "log", ranks=2)
    assert alone.code == 0 and both.code == 0, both.stderr
    figures = [json.loads(ended.stdout) for ended in (alone, both)]
    assert [one["mesh"] for one in figures] == ["1 device", "pp 2"]
    assert figures[1]["loss"] == pytest.approx(figures[0]["loss"], rel=1e-6)
    ended = program([*words, f"train.plan={plan}"], tmp_path / "log")
    assert ended.code == 2 and "is for 2 processes, but this run has 1" in ended.stderr
    ended = program([*words, f"train.plan={plan}", "parallel.pp=1"], tmp_path / "log", ranks=2)
    assert ended.code == 2 and "command line: parallel.pp is 1; the plan has 2" in ended.stderr


def test_frozen_blocks_are_the_plans(trainer, plan, tmp_path):
    vision = {"model.freeze": "[vision.*]"}
    message = trainer.refused({"train.plan": str(plan), **vision})
    assert "is for a model with no frozen blocks, the recipe has the frozen blocks vision.embed, vision.0" in message
    frozen = make_plan(trainer, tmp_path / "frozen.json", more=["model.freeze=[vision.*]"])
    trainer.run({"train.plan": str(frozen), "train.max_steps": 1, **vision})
    assert "the recipe has no frozen blocks (model.freeze)" in trainer.refused({"train.plan": str(frozen)})


@pytest.mark.parametrize("content", ["", "{}", '{"mesh": 1}'])
def test_a_damaged_plan_is_refused(trainer, tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_text(content)
    assert str(path) in trainer.refused({"train.plan": str(path)})


def test_a_missing_plan_is_refused(trainer, tmp_path):
    assert "nowhere.json" in trainer.refused({"train.plan": str(tmp_path / "nowhere.json")})


def test_a_plan_above_the_machines_memory_is_refused(trainer, plan, tmp_path):
    huge = changed(plan, tmp_path / "p.json", prediction__peak_bytes=[1e18])
    message = trainer.refused({"train.plan": str(huge)})
    assert "needs" in message and "a process may use" in message


