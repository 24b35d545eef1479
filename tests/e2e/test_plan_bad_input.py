"""What a user can get wrong with `gimbal plan`: exit code 2, no result, and a message that says what to do."""

from __future__ import annotations

import json

import pytest
from plan_tool import model_config, plan, refused, write_lengths, write_model, write_profile

MACHINE = ["--hardware", "a100-80g"]
TWO_STAGES = [
    {"first": "vision.embed", "last": "text.embed", "num_blocks": 7, "recompute": [{"level": "keep", "num_blocks": 7}]},
    {"first": "text.0", "last": "text.head", "num_blocks": 8, "recompute": [{"level": "keep", "num_blocks": 8}]},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("bad_plan")
    write_model(root / "config.json")
    write_lengths(root / "a.csv", 60)
    return root


@pytest.fixture(scope="module")
def inputs(place):
    return ["--model", place / "config.json", "--lengths", place / "a.csv"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["no machine is given", "gimbal profile --model ", " --out profile.json` and give --profile profile.json", "--hardware NAME"]),
        (["--devices", "2"], ["no machine is given", "when it has them all", "--nproc 2 --out profile.json`", "--profile profile.json"]),
        (["--hardware", "a100-80"], ["a100-80", "a100-80g"]),
        (["--hardware", "no.json"], ["no.json"]),
        (["--profile", "no.json"], ["no.json", "cannot read"]),
        ([*MACHINE, "--profile", "p.json"], ["--profile and --hardware"]),
        ([*MACHINE, "--dtype", "float8"], ["float8", "bfloat16"]),
        ([*MACHINE, "--devices", "0"], ["--devices", "'0'", "a whole number from 1"]),
        ([*MACHINE, "--devices", "x"], ["--devices", "'x'"]),
        ([*MACHINE, "--pp", "1.5"], ["--pp", "'1.5'"]),
        ([*MACHINE, "--devices", "6", "--pp", "4"], ["pp", "4", "6"]),
        ([*MACHINE, "--devices", "8", "--tp", "3"], ["tp", "3"]),
        ([*MACHINE, "--devices", "7", "--tp", "7"], ["tp", "7"]),
        ([*MACHINE, "--devices", "2", "--ep", "2"], ["ep", "2"]),
        ([*MACHINE, "--devices", "64", "--pp", "64"], ["pp", "64", "15"]),
        ([*MACHINE, "--schedule", "1f2b"], ["1f2b", "1f1b", "zb-h1"]),
        ([*MACHINE, "--schedule", "1f1b", "--stages-per-rank", "2"], ["--stages-per-rank", "--schedule interleaved"]),
        ([*MACHINE, "--stages-per-rank", "1"], ["--stages-per-rank", "'1'", "from 2"]),
        ([*MACHINE, "--cap", "text"], ["--cap", "'text'", "NAME=ROWS"]),
        ([*MACHINE, "--cap", "text=0"], ["--cap text", "'0'", "a whole number from 1"]),
        ([*MACHINE, "--cap", "audio=5"], ["--cap audio", "text, vision"]),
        ([*MACHINE, "--cap", "text=auto"], ["--cap text", "'auto'"]),
        ([*MACHINE, "--cap", "text=4096", "--cap", "auto"], ["--cap auto", "leave the other --cap out"]),
        ([*MACHINE, "--cap", "text=4096", "--cap", "text=4097"], ["--cap text", "twice"]),
        ([*MACHINE, "--cap", "text=4096", "--cap", "tokens=4096"], ["stream text is given twice"]),
        ([*MACHINE, "--cap", "text=1000"], ["a.csv line", "cap 1000", "--oversize reject"]),
        ([*MACHINE, "--cap", "vision=4"], ["a.csv line", "5 vision, cap 4"]),
        ([*MACHINE, "--cap", "text=4096", "--oversize", "alone"], ["--oversize", "'alone'", "error or reject"]),
        ([*MACHINE, "--oversize", "reject"], ["--oversize", "--cap NAME=ROWS"]),
        ([*MACHINE, "--cap", "text=1", "--oversize", "reject"], ["every sample is above a cap"]),
        ([*MACHINE, "--samples-per-step", "0"], ["--samples-per-step", "above 0"]),
        ([*MACHINE, "--packs-per-step", "8"], ["--packs-per-step", "--cap NAME=ROWS"]),
        ([*MACHINE, "--cap", "auto", "--packs-per-step", "8"], ["--packs-per-step", "--samples-per-step"]),
        ([*MACHINE, "--cap", "text=4096", "--packs-per-step", "8", "--samples-per-step", "8"], ["leave one out"]),
        ([*MACHINE, "--devices", "4", "--without", "mesh", "--cap", "text=4096", "--packs-per-step", "3"], ["3 packs", "--packs-per-step"]),
        ([*MACHINE, "--memory", "x"], ["--memory", "'x'"]),
        ([*MACHINE, "--memory", "0"], ["--memory", "'0'", "above 0"]),
        ([*MACHINE, "--memory", "7"], ["no plan fits", "needs at least", "GiB per device"]),
        ([*MACHINE, "--memory", "1"], ["a device has 0 B for us (", "GiB are reserved)", "needs at least", "GiB per device"]),
        ([*MACHINE, "--memory", "75M"], ["a device has 0 B for us", "needs at least"]),
        ([*MACHINE, "--without", "magic"], ["--without", "'magic'", "caps, mesh, schedules"]),
        ([*MACHINE, "--without", "recomput"], ["did you mean recompute?"]),
        ([*MACHINE, "--freeze", "visual.*"], ["--freeze", "'visual.*'", "vision.embed", "text.head"]),
        ([*MACHINE, "--freeze", "text.0.mlp.*"], ["--freeze", "'text.0.mlp.*'", "names no whole block"]),
        ([*MACHINE, "--freeze", "*"], ["nothing is left to train"]),
        ([*MACHINE, "--seed", "-1"], ["--seed", "'-1'"]),
        ([*MACHINE, "--top", "0"], ["--top", "'0'"]),
        ([*MACHINE, "--stage", "one"], ["--stage", "recipe"]),
        ([*MACHINE, "--out", "no_folder/plan.json"], ["--out", "no folder no_folder"]),
        ([*MACHINE, "--json", "no_folder/plan.json"], ["--json", "no folder no_folder"]),
        ([*MACHINE, "--out", "/tmp"], ["--out: /tmp is a folder"]),
        ([*MACHINE, "--out", ""], ["--out: the name is empty"]),
        ([*MACHINE, "--out="], ["--out"]),
        ([*MACHINE, "--out", "-"], ["--out: '-' is no file"]),
        ([*MACHINE, "--json", "/dev/null"], ["--json: /dev/null is no plain file"]),
        ([*MACHINE, "--json", ""], ["--json: the name is empty"]),
        ([*MACHINE, "--plan", "no.json"], ["no.json", "cannot read"]),
        ([*MACHINE, "--bogus"], ["--bogus", "gimbal plan --help"]),
    ],
)
def test_options(inputs, words, parts):
    message = refused(*inputs, *words)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (MACHINE, ["no model is given", "--model CONFIG.json", "--lengths"]),
        (["--model", "no.json", "--lengths", "a.csv", *MACHINE], ["no.json"]),
        (["--model", "config.json", *MACHINE], ["--lengths FILE"]),
        (["--model", "config.json", "--lengths", "no.csv", *MACHINE], ["no.csv", "no such file"]),
        (["no.yaml", *MACHINE], ["no.yaml"]),
        (["r.yaml", "--model", "config.json", *MACHINE], ["--model", "model.path=FOLDER"]),
        (["r.yaml", "--lengths", "a.csv", *MACHINE], ["--lengths", "data.train=FOLDER"]),
        (["r.yaml", "--freeze", "a", *MACHINE], ["--freeze", "model.freeze=[PATTERN]"]),
    ],
)
def test_sources(place, words, parts):
    message = refused(*(place / word if word == "config.json" else word for word in words))
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda c: c.pop("model_type"), ["config.json", "model_type"]),
        (lambda c: c["text_config"].update(num_attention_heads="many"), ["config.json", "num_attention_heads"]),
        (lambda c: c.update(model_type="unheard_of"), ["config.json", "unheard_of", "internvl"]),
    ],
)
def test_model_fields(place, tmp_path, change, parts):
    config = model_config()
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = refused("--model", tmp_path, "--lengths", place / "a.csv", *MACHINE)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("vision,tokens\n", ["a.csv", "no samples"]),
        ("vision\n1\n", ["no column text (or tokens)", "it has vision"]),
        ("tokens,audio\n1,2\n", ["column audio", "text (or tokens), vision (or tiles, patches)"]),
        ("tokens,text\n1,2\n", ["columns tokens and text are both stream text"]),
        ("tokens,tiles,vision\n300,1,1\n", ["columns tiles and vision are both stream vision"]),
        ("tokens,patches\n300,1\n", ["column patches", "are tiles"]),
        ("tokens,vision\n300,1\n300,2\n", ["a.csv line 3", "has 300 text rows", "512 visual tokens"]),
        ("tokens,vision\n300,x\n", ["a.csv:2", "column vision"]),
    ],
)
def test_lengths(place, tmp_path, text, parts):
    (tmp_path / "a.csv").write_text(text)
    message = refused("--model", place, "--lengths", tmp_path / "a.csv", *MACHINE)
    assert all(part in message for part in parts), message


def test_text_models_have_no_vision_rows(place, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(model_config()["text_config"]))
    words = ["--model", tmp_path, "--lengths"]
    message = refused(*words, place / "a.csv", *MACHINE)
    assert "vision rows" in message and "model of text alone" in message
    (tmp_path / "a.csv").write_text("tokens\n" + "400\n" * 40)
    message = refused(*words, tmp_path / "a.csv", *MACHINE, "--cap", "vision=3")
    assert "--cap vision: no sample has vision rows" in message
    plan(*words, tmp_path / "a.csv", *MACHINE, "--samples-per-step", 20)


@pytest.fixture(scope="module")
def fingerprint(inputs, place):
    plan(*inputs, *MACHINE, "--samples-per-step", 16, "--cap", "text=4096", "--out", place / "plan.json")
    return json.loads((place / "plan.json").read_text())["model"]["fingerprint"]


def test_profiles_of_another_model_or_without_a_class(inputs, tmp_path, fingerprint):
    profile = write_profile(tmp_path / "profile.json", "f" * 64)
    message = refused(*inputs, "--profile", profile)
    assert str(profile) in message and "another model" in message and "gimbal profile" in message
    profile = write_profile(tmp_path / "profile.json", fingerprint)
    assert "was measured in float32, but the plan is for bfloat16" in refused(*inputs, "--profile", profile, "--dtype", "bfloat16")
    short = json.loads(profile.read_text())
    del short["blocks"]["projector"]
    profile.write_text(json.dumps(short))
    message = refused(*inputs, "--profile", profile)
    assert "'projector'" in message and "text_layer" in message and "gimbal profile" in message
    alone = {"latency": 0.0, "bytes_per_second": 0.0}
    write_profile(profile, fingerprint, links={"inside_node": alone, "between_nodes": alone, "devices_per_node": 1})
    assert "gimbal profile --nproc 2`" in refused(*inputs, "--profile", profile, "--devices", 2)
    write_profile(profile, fingerprint, memory_bytes=1e6)
    assert "needs at least" in refused(*inputs, "--profile", profile)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--top", "3"], ["--top", "nothing is searched"]),
        (["--explain"], ["--explain", "nothing is searched"]),
        (["--without", "caps"], ["--without", "nothing is searched"]),
        (["--pp", "2"], ["--plan", "leave out"]),
        (["--cap", "text=4096"], ["--plan", "leave out"]),
        (["--devices", "2"], ["--devices", "is a plan for 1, not 2"]),
    ],
)
def test_options_that_a_given_plan_rules_out(inputs, place, fingerprint, words, parts):
    assert fingerprint
    message = refused(*inputs, *MACHINE, "--plan", place / "plan.json", *words)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda p: p["model"].update(fingerprint="0"), ["was made for another model: its blocks have the same names and other sizes"]),
        (lambda p: p["model"].update(fingerprint="0", type="qwen3"), ["another model: it is qwen3, not internvl"]),
        (lambda p: (p["model"].update(fingerprint="0"), p["model"]["blocks"].__setitem__(-1, "text.tail"),
                    p["stages"][-1].update(last="text.tail")), ["another model: its block 14 is text.tail, not text.head"]),
        (lambda p: p["model"].update(blocks=["vision.embed", *p["model"]["blocks"][2:]]), ["stages[0]"]),
        (lambda p: p["model"]["blocks"].__setitem__(-1, "text.tail"), ["'stages[0].last' is text.head"]),
        (lambda p: (p["model"]["blocks"].__setitem__(-1, "text.tail"), p["stages"][-1].update(last="text.tail")),
         ["block text.tail is not of the model"]),
        (lambda p: p["mesh"].update(tp=3), ["tp", "3"]),
        (lambda p: p["packs"]["caps"][0].update(rows=500), ["a.csv line", "cap 500"]),
        (lambda p: p["packs"]["caps"].append({"stream": "audio", "rows": 1}), ["no stream audio"]),
        (lambda p: (p["schedule"].update(kind="gpipe", stages_per_rank=2), p.update(stages=TWO_STAGES)), ["gpipe"]),
        (lambda p: p.update(gimbal_plan=7), ["format 7"]),
    ],
)  # fmt: skip
def test_plan_files_that_do_not_fit_the_model(inputs, place, fingerprint, tmp_path, change, parts):
    edited = json.loads((place / "plan.json").read_text())
    assert edited["model"]["fingerprint"] == fingerprint
    change(edited)
    (tmp_path / "edited.json").write_text(json.dumps(edited))
    message = refused(*inputs, *MACHINE, "--plan", tmp_path / "edited.json")
    assert all(part in message for part in [*parts, "edited.json" if "cap 500" not in parts else "a.csv"]), message
    (tmp_path / "broken.json").write_text("{")
    assert "broken.json" in refused(*inputs, *MACHINE, "--plan", tmp_path / "broken.json")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["balance.method=isf"], ["balance.method", "isf", "balance.method=gimbal"]),
        (["balance.micro_batches=2"], ["balance.micro_batches=1"]),
        (["balance.samples_per_pack=3"], ["balance.samples_per_pack=0"]),
        (["balance.packs_per_slot=2"], ["balance.packs_per_slot=0"]),
        (["balance.oversize=alone"], ["balance.oversize=reject", "--cap auto"]),
        (["balance.text_cap=20"], ["cap 20"]),
        (["model.freeze=[text.0.mlp.*]"], ["model.freeze", "names no whole block"]),
        (["data.weights={nothing: 1}"], ["nothing"]),
        (["data.weights={colours: 0}"], ["data.weights"]),
        (["model.path=no_model"], ["no_model"]),
        (["data.train=no_data"], ["no_data"]),
        (["balance.txt_cap=3"], ["balance.txt_cap", "balance.text_cap"]),
        (["--stage", "align"], ["--stage", "no stage 'align'", "tiny"]),
        (["--oversize", "reject"], ["balance.oversize=reject"]),
        (["--dtype", "float8"], ["float8"]),
        (["parallel.tp=3"], ["tp 3", "The recipe fixes tp 3 (parallel)", "--pp N"]),
        (["parallel.pp=4", "--devices", "6"], ["pp 4", "6 devices", "The recipe fixes pp 4"]),
        (["parallel.pp=2000000"], ["parallel.pp: is 2000000", "at most 1048576"]),
        (["parallel.pp=1000000", "parallel.tp=1000000"], ["more than 1048576 devices"]),
    ],
)
def test_recipes(trainer, words, parts):
    message = refused(trainer.recipe, *words, *MACHINE)
    assert all(part in message for part in parts), message


def test_recipes_with_stages_need_a_choice(trainer, tmp_path):
    recipe = json.loads(trainer.recipe.read_text())
    recipe["stages"] = [{"name": "align"}, {"name": "tune", "model": {"freeze": ["vision.*"]}}]
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    message = refused(tmp_path / "r.yaml", *MACHINE)
    assert "align, tune" in message and "--stage NAME" in message
    plan(tmp_path / "r.yaml", "--stage", "tune", *MACHINE)
