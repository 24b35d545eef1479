"""`gimbal plan` as a user runs it: tables, files, sentences, and the same plan again."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from plan_tool import figures, plan, write_lengths, write_model, write_profile

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "plans"
METHODS = {"gimbal", "parameters + full", "layers + full", "omnibal + full", "omnibal + omnibal"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """--model, --lengths and a machine."""
    folder = tmp_path_factory.mktemp("plan")
    model, lengths = write_model(folder / "config.json"), write_lengths(folder / "a.csv")
    return ["--model", model, "--lengths", lengths, "--hardware", "a100-80g", "--samples-per-step", 64]


@pytest.fixture(scope="module")
def found(inputs, tmp_path_factory):
    """plan.json for four devices in a pipeline, and what was printed."""
    file = tmp_path_factory.mktemp("found") / "plan.json"
    ended = plan(*inputs, "--devices", 4, "--pp", 4, "--out", file)
    return file, ended.stdout


def test_help_has_examples():
    text = plan("--help").stdout
    assert "Examples:" in text and "gimbal plan recipe.yaml" in text and "--dp-shard" in text and "docs/planning.md" in text


def test_prints_a_table(found):
    lines = found[1].splitlines()
    assert [line.split()[0] for line in lines[:7]] == ["plan", "mesh", "schedule", "packs", "step", "bound", "speed"]
    assert lines[0].startswith("plan     gimbal: internvl, ") and "analytic profile of a100-80g, bfloat16" in lines[0]
    assert "4 devices: pp 4" in lines[1]
    assert lines[7].split()[:2] == ["stage", "blocks"] and lines[8].startswith("0      vision.embed")
    assert len(lines) >= 8 + 4


def test_plan_file_covers_every_block_once(found):
    file = json.loads(found[0].read_text())
    assert list(file) == ["gimbal_plan", "method", "model", "profile", "mesh", "shard_policy", "schedule", "packs", "stages", "prediction"]
    assert file["stages"][0]["first"] == "vision.embed" and file["stages"][-1]["last"] == "text.head"
    assert sum(stage["num_blocks"] for stage in file["stages"]) == 1 + 4 + 1 + 1 + 6 + 1 + 1
    for stage in file["stages"]:
        assert sum(run["num_blocks"] for run in stage["recompute"]) == stage["num_blocks"]
    step = file["prediction"]["step"]
    parts = sum(step[key] for key in ("compute", "recompute", "communication", "bubble", "imbalance"))
    assert parts == pytest.approx(step["seconds"])
    assert step["seconds"] >= max(file["prediction"]["bound"].values()) * (1 - 1e-9)


def test_a_plan_from_a_file_is_predicted_alike(inputs, found):
    words = [word for word in inputs if word not in ("--samples-per-step", 64)]
    again = figures(*words, "--plan", found[0])
    assert again["plan"] == json.loads(found[0].read_text())
    assert "search" not in again


def test_an_edited_plan_is_predicted_anew(inputs, found, tmp_path):
    edited = json.loads(found[0].read_text())
    for stage in edited["stages"]:
        stage["recompute"] = [{"level": "full", "num_blocks": stage["num_blocks"]}]
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    again = figures(*inputs[:-2], "--plan", tmp_path / "edited.json")["plan"]["prediction"]
    before = edited["prediction"]
    assert again["step"]["recompute"] > before["step"]["recompute"]
    assert again["step"]["seconds"] > before["step"]["seconds"]
    assert max(again["peak_bytes"]) < max(before["peak_bytes"])


def test_says_whether_it_fits(inputs, found, tmp_path):
    ended = plan(*inputs, "--devices", 4, "--check")
    assert "It fits: the largest peak is " in ended.stdout and "parameters, gradients, optimizer" in ended.stdout
    assert re.search(r"The pack has \S+a\.csv line \d+", ended.stdout)
    # The same plan on devices with less memory than its state needs.
    ended = plan(*inputs[:-2], "--plan", found[0], "--memory", 7.5, "--check", code=1)
    assert "It does not fit: " in ended.stdout
    check = figures(*inputs[:-2], "--plan", found[0], "--memory", 7.5, "--check", code=1)["check"]
    for size in ("7.5GiB", "7680MB"):
        assert figures(*inputs[:-2], "--plan", found[0], "--memory", size, "--check", code=1)["check"] == check
    assert check["fits"] is False and check["peak_bytes"] > check["capacity_bytes"] and check["packs_over"] > 0
    assert sum(check["parts"].values()) == pytest.approx(check["peak_bytes"])
    assert all(re.search(r"a\.csv line \d+$", place) for place in check["worst_pack"]["samples"])


def test_names_the_samples_that_fit_in_no_pack(inputs, found, tmp_path):
    lengths = tmp_path / "b.csv"
    lengths.write_text(Path(inputs[3]).read_text() + "0,200000\n")
    words = ["--model", inputs[1], "--lengths", lengths, "--hardware", "a100-80g"]
    edited = json.loads(found[0].read_text())
    edited["packs"]["caps"] = [{"stream": "text", "rows": 200000}, {"stream": "vision", "rows": 5}]
    (tmp_path / "plan.json").write_text(json.dumps(edited))
    roomy = figures(*words, "--plan", tmp_path / "plan.json", "--memory", 10000, "--check")["check"]
    memory = 10000 - (roomy["capacity_bytes"] - 0.9 * roomy["peak_bytes"]) / 2**30
    check = figures(*words, "--plan", tmp_path / "plan.json", "--memory", memory, "--check", code=1)["check"]
    assert [misfit["place"].rsplit("/", 1)[-1] for misfit in check["misfits"]] == ["b.csv line 402"]
    assert "200,000 text rows" in check["misfits"][0]["reason"]


def test_explains(inputs):
    text = plan(*inputs, "--devices", 4, "--pp", 4, "--explain").stdout
    assert re.search(r"- A step of \d+ samples is predicted to take ", text)
    assert re.search(r"- Stage \d is the slowest: .* above the mean of the stages\.", text)
    assert "Moving its " in text or "so nothing can be moved out of it" in text
    assert "- Memory: pipeline rank " in text
    assert [line.split()[0] for line in text.splitlines()[-6:]] == ["caps", "mesh", "schedules", "partition", "recompute", "refine"]


def test_compares_methods(inputs):
    words = [*inputs, "--devices", 4, "--pp", 4, "--compare"]
    compared = figures(*words)["compare"]
    assert METHODS <= {entry["method"] for entry in compared} and compared[0]["method"] == "gimbal"
    seconds = [entry["prediction"]["step"]["seconds"] for entry in compared]
    assert min(seconds) >= seconds[0] * (1 - 1e-9)
    table = plan(*words).stdout
    assert re.search(r"^method +step +ratio", table, re.MULTILINE) and "\nomnibal + omnibal " in table
    assert {entry["fits"] for entry in compared} == {True}


def test_one_rule_says_what_fits(inputs, tmp_path):
    """The comparison, --check and the planner count packs as full as the caps."""
    words = [*inputs, "--devices", 4, "--pp", 4, "--schedule", "1f1b", "--cap", "text=8192"]
    roomy = {entry["method"]: entry for entry in figures(*words, "--compare", "--memory", 100)["compare"]}["layers + none"]
    simulated, full = max(roomy["prediction"]["peak_bytes"]), roomy["full_peak_bytes"]
    assert roomy["fits"] and full > simulated
    reserved = 100 * 2**30 - roomy["prediction"]["capacity_bytes"]
    memory = (reserved + (simulated + full) / 2) / 2**30
    found = figures(*words, "--compare", "--check", "--memory", memory)
    rows = {entry["method"]: entry for entry in found["compare"]}
    assert rows["layers + none"]["fits"] is False
    assert rows["gimbal"]["fits"] is True and found["check"]["fits"] is True
    assert rows["gimbal"]["full_peak_bytes"] == pytest.approx(found["check"]["full_peak_bytes"])
    assert all(entry["fits"] == (entry["full_peak_bytes"] <= found["check"]["capacity_bytes"]) for entry in rows.values())
    assert re.search(r"\nlayers \+ none .* no\n", plan(*words, "--compare", "--memory", memory).stdout)
    # A row of the comparison as a plan file: --check says the same.
    alone = {key: value for key, value in rows["layers + none"].items() if key not in ("fits", "full_peak_bytes")}
    (tmp_path / "none.json").write_text(json.dumps(alone))
    check = figures(*inputs[:-2], "--plan", tmp_path / "none.json", "--memory", memory, "--check", code=1)["check"]
    assert check["fits"] is False and check["full_peak_bytes"] == pytest.approx(rows["layers + none"]["full_peak_bytes"])


def test_choices_without_effect_are_said(inputs):
    words = [*inputs, "--cap", "text=8192", "--schedule", "interleaved", "--stages-per-rank", 4]
    notes = figures(*words)["notes"]
    assert [note.split(" has no effect")[0] for note in notes] == ["--schedule interleaved", "--stages-per-rank 4"]
    assert "--pp N" in plan(*words).stderr
    words = [*words[:-6], "--packs-per-step", 8, *words[-6:]]
    assert figures(*[word for word in words if word not in ("--samples-per-step", 64)], "--devices", 2, "--pp", 2)["notes"] == []


def test_a_given_plan_may_leave_samples_out(inputs, tmp_path):
    plan(*inputs, "--cap", "text=8192", "--out", tmp_path / "plan.json")
    (tmp_path / "b.csv").write_text(Path(inputs[3]).read_text() + "0,9000\n")
    words = ["--model", inputs[1], "--lengths", tmp_path / "b.csv", "--hardware", "a100-80g", "--plan", tmp_path / "plan.json"]
    plan(*words, code=2)
    assert figures(*words, "--oversize", "reject")["notes"] == ["1 sample above a cap is left out"]


def test_lists_the_best(inputs):
    top = figures(*inputs, "--devices", 8, "--top", 3)["top"]
    assert len(top) == 3
    per_sample = [entry["prediction"]["step"]["seconds"] / entry["prediction"]["samples_per_step"] for entry in top]
    assert per_sample[0] <= min(per_sample) * 1.001
    assert len({json.dumps({**entry, "prediction": None}) for entry in top}) == 3
    table = plan(*inputs, "--devices", 8, "--top", 3).stdout
    assert re.search(r"\n +mesh +schedule +caps .*\n1 .*\n2 .*\n3 .*\n$", table)


def test_axes_schedule_and_caps_are_kept(inputs):
    words = ["--devices", 8, "--pp", 2, "--tp", 2, "--dp-shard", 2, "--schedule", "gpipe", "--cap", "text=4096", "--cap", "tiles=12"]
    own = figures(*inputs, *words)["plan"]
    assert own["mesh"] == {"pp": 2, "dp_replicate": 1, "dp_shard": 2, "sp": 1, "tp": 2, "ep": 1}
    assert own["schedule"]["kind"] == "gpipe"
    assert own["packs"]["caps"] == [{"stream": "text", "rows": 4096}, {"stream": "vision", "rows": 12}]
    own = figures(*inputs[:-2], *words, "--packs-per-step", 32)["plan"]
    assert own["packs"]["per_step"] == 32 and own["packs"]["micro_batches"] == 16


def test_passes_can_be_switched_off(inputs):
    words = [*inputs, "--devices", 4, "--memory", 8.4]
    full = figures(*words, "--without", "recompute", "--without", "mesh")
    assert {run["level"] for stage in full["plan"]["stages"] for run in stage["recompute"]} <= {"full", "keep"}
    assert full["plan"]["mesh"]["pp"] == 1 and full["plan"]["prediction"]["step"]["recompute"] > 0
    assert [entry["enabled"] for entry in full["search"]["passes"]] == [True, False, True, True, False, True]
    best = figures(*words)["plan"]["prediction"]
    own = full["plan"]["prediction"]
    assert best["step"]["seconds"] / best["samples_per_step"] <= own["step"]["seconds"] / own["samples_per_step"]


def test_frozen_blocks_cost_less(inputs):
    words = [*inputs, "--devices", 1, "--cap", "text=4096"]
    all_trained, frozen = (figures(*words, *more)["plan"] for more in ([], ["--freeze", "vision.*", "--freeze", "projector.*"]))
    assert frozen["prediction"]["step"]["seconds"] < all_trained["prediction"]["step"]["seconds"]
    assert max(frozen["prediction"]["peak_bytes"]) < max(all_trained["prediction"]["peak_bytes"])


def test_plans_from_a_measured_profile(inputs, found, tmp_path):
    fingerprint = json.loads(found[0].read_text())["model"]["fingerprint"]
    profile = write_profile(tmp_path / "profile.json", fingerprint)
    own = figures(*inputs[:4], "--profile", profile, "--cap", "text=8192")["plan"]
    assert own["profile"] == {"origin": "measured", "hardware": "this machine", "dtype": "float32"}
    # Blocks that cost (1 + 1 + 1) x 1e-6 a row: what the classes say adds up to the micro-batch.
    times = {entry["class"]: entry for entry in own["prediction"]["micro_batch_seconds"]}
    assert times["text_layer"]["backward"] == pytest.approx(2 * times["text_layer"]["forward"], rel=0.01)


def test_oversize_samples_are_left_out(inputs):
    words = [*inputs, "--cap", "vision=4", "--oversize", "reject"]
    ended = plan(*words)
    dropped = sum(line.startswith("5,") for line in Path(inputs[3]).read_text().splitlines())
    assert dropped > 0 and f"{dropped} samples above a cap are left out" in ended.stderr
    assert figures(*words)["notes"] == [f"{dropped} samples above a cap are left out"]


def test_plans_what_a_recipe_says(trainer, tmp_path):
    words = [trainer.recipe, "--hardware", "a100-80g"]
    own = figures(*words, "--out", tmp_path / "plan.json")["plan"]
    assert own["packs"]["caps"][0] == {"stream": "text", "rows": 192} and own["packs"]["per_step"] == 4
    assert own["profile"]["dtype"] == "float32" and own["mesh"]["pp"] == 1
    # An override, and caps that are searched: the step keeps its samples.
    smaller = figures(*words, "balance.packs_per_step=2")["plan"]
    assert smaller["packs"]["per_step"] == 2
    both = [figures(*words, "balance.packs_per_step=64", *more)["plan"] for more in ([], ["--cap", "auto"])]
    samples = [entry["prediction"]["samples_per_step"] for entry in both]
    assert both[1]["packs"]["caps"][0]["rows"] > 192 and 0.7 < samples[1] / samples[0] < 1.4
    again = figures(*words, "--plan", tmp_path / "plan.json")
    assert again["plan"] == own and again["notes"] == []


def test_says_what_training_and_the_recipe_do_not_share(trainer):
    words = [trainer.recipe, "--hardware", "a100-80g", "--devices", 2]
    assert figures(*words, "--dp-replicate", 2)["notes"] == figures(*words, "--dp-shard", 2)["notes"] == []
    notes = figures(*words, "--dp-replicate", 2, "model.recompute=full")["notes"]
    assert notes == ["model.recompute of the recipe is not used: a plan says each block's level"]


def test_a_recipe_fixes_what_it_sets_of_the_mesh(trainer):
    words = [trainer.recipe, "--hardware", "a100-80g", "balance.packs_per_step=8", "parallel.pp=2", "parallel.dp_replicate=2"]
    devices = "for 4 devices, the product of the axes; --devices N gives another number"
    found = figures(*words, "parallel.schedule=gpipe")
    mesh = found["plan"]["mesh"]
    assert (mesh["pp"], mesh["dp_replicate"], mesh["dp_shard"], mesh["sp"], mesh["tp"]) == (2, 2, 1, 1, 1)
    assert found["plan"]["schedule"]["kind"] == "gpipe"
    assert found["notes"] == ["fixed by the recipe (parallel): pp 2, dp_replicate 2, schedule gpipe", devices]
    # The others are searched, with more devices too.
    found = figures(*words, "parallel.tp=1", "parallel.sp=1", "parallel.weights=reshard", "--devices", 8)
    assert found["plan"]["mesh"]["dp_shard"] == 2 and found["plan"]["shard_policy"] == "reshard"
    # An option wins, and training would not take the plan.
    found = figures(*words, "--pp", 1)
    assert found["plan"]["mesh"]["pp"] == 1 and found["plan"]["mesh"]["dp_replicate"] == 2
    assert found["notes"] == [
        "fixed by the recipe (parallel): dp_replicate 2",
        "for 2 devices, the product of the axes; --devices N gives another number",
        "training with this recipe refuses the plan: parallel.pp is 2, the plan has 1; change the recipe, or leave the key out",
    ]


def test_stages_of_a_rank_are_the_recipes(trainer):
    words = [trainer.recipe, "--hardware", "a100-80g", "balance.packs_per_step=8", "parallel.pp=2"]
    twice = figures(*words, "parallel.schedule=interleaved", "parallel.stages_per_rank=3")["plan"]
    assert twice["schedule"]["kind"] == "interleaved" and len(twice["stages"]) == 6
    once = figures(*words, "parallel.stages_per_rank=1", "--top", 5)
    assert {one["schedule"]["kind"] for one in once["top"]} == {"1f1b", "zb-h1"}


def test_devices_are_those_of_the_axes(inputs):
    found = figures(*inputs, "--pp", 2, "--tp", 2)
    assert found["plan"]["mesh"]["pp"] == found["plan"]["mesh"]["tp"] == 2
    assert found["notes"] == ["for 4 devices, the product of the axes; --devices N gives another number"]
    assert figures(*inputs)["notes"] == []


def test_expert_parallelism_is_no_training(prepare, tmp_path):
    """A recipe's model with routed experts can be planned over ep, but not trained so."""
    talk = {"messages": [{"role": "user", "content": "the answer?"}, {"role": "assistant", "content": "at the end"}]}
    config = {"model_type": "qwen3_moe", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "num_experts": 4, "num_experts_per_tok": 2,
              "moe_intermediate_size": 32}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    recipe = {"model": {"path": str(tmp_path)}, "data": {"train": str(prepare({"words": [talk] * 20}))}, "balance": {"text_cap": 64}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    words = [tmp_path / "recipe.yaml", "--hardware", "a100-80g", "--devices", 2, "--dp-shard", 2, "balance.packs_per_step=2"]
    assert figures(*words, "--ep", 1)["notes"] == []
    found = figures(*words, "--ep", 2)
    assert found["plan"]["mesh"]["ep"] == 2
    assert found["notes"] == [
        "training cannot run this mesh (dp_shard 2, ep 2): it has no expert parallelism; add --ep 1 for a plan that runs"
    ]
    # Lengths without a recipe are no training that could fail.
    lengths = tmp_path / "a.csv"
    lengths.write_text("tokens\n" + "60\n" * 20)
    words = ["--model", tmp_path, "--lengths", lengths, "--hardware", "a100-80g", "--devices", 2, "--dp-shard", 2, "--ep", 2]
    assert figures(*words, "--cap", "text=64", "--samples-per-step", 2)["notes"] == []


def test_same_input_same_plan(inputs, tmp_path):
    files = []
    for name in ("one.json", "two.json"):
        plan(*inputs, "--devices", 8, "--out", tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [("cli_pipeline", ["--devices", 4, "--pp", 4, "--schedule", "1f1b", "--cap", "text=8192"]),
     ("cli_tight_memory", ["--devices", 1, "--memory", 8.2, "--cap", "text=8192"])],
)  # fmt: skip
def test_tables_are_as_agreed(inputs, name, words):
    """Plans as text: a change of them is looked at. GIMBAL_WRITE_GOLDEN=1 writes the files."""
    text = plan(*inputs, *words).stdout
    if os.environ.get("GIMBAL_WRITE_GOLDEN"):
        (GOLDEN / f"{name}.txt").write_text(text, encoding="utf-8")
    assert text == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
