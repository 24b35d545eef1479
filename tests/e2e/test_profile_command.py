"""`gimbal profile`: a measured and an analytic profile of the tiny model, and its refusals."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e_data import colour_talks
from e2e_tool import Ended, run

CLASSES = {"vision_embed", "vision_layer", "projector", "text_embed", "text_layer", "text_norm", "text_head"}
LEVELS = ("keep", "attention", "mlp", "full")


def profile(tmp_path: Path, *words: str | Path, **options: Any) -> Ended:
    return run(["profile", *words], tmp_path / "log", **options)


@pytest.fixture(scope="module")
def measured(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Ended]:
    folder = tmp_path_factory.mktemp("profile")
    ended = profile(folder, "--model", model, f"data.train={data}", "balance.text_cap=192", "train.threads=1",
                    "train.device=cpu", "--seconds", "1.5", "--out", folder / "profile.json")  # fmt: skip
    assert ended.code == 0, ended.stderr
    return json.loads((folder / "profile.json").read_text()), ended


def test_measures_every_class_of_blocks(measured: tuple[dict[str, Any], Ended]) -> None:
    table, ended = measured
    assert table["origin"] == "measured" and table["dtype"] == "float32" and table["value_bytes"] == 4
    assert set(table["blocks"]) == CLASSES
    for name in CLASSES:
        assert sum(table["blocks"][name]["forward"]) > 0, name  # constant, per row, per pair
        assert name in ended.stdout
    assert table["optimizer_per_parameter"] + table["step_overhead"] > 0
    assert table["memory_bytes"] > 1 << 28 and table["peak_flops"] > 1e6
    assert any("links between devices were not measured" in note for note in table["notes"])


def test_recompute_keeps_fewer_bytes(measured: tuple[dict[str, Any], Ended]) -> None:
    table, _ = measured
    for name in ("vision_layer", "text_layer"):
        saved = {level: table["blocks"][name]["saved"][level][1] for level in LEVELS}
        assert saved["full"] < min(saved["attention"], saved["mlp"]) < max(saved["attention"], saved["mlp"]) < saved["keep"]
    # A layer keeps its input, or what the next block has as its own: 32 float32 values a row.
    assert table["blocks"]["text_layer"]["saved"]["full"][1] == pytest.approx(128, rel=0.01)
    # The backward pass at full holds what the block computes again.
    workspace = table["blocks"]["text_layer"]["backward_workspace"]
    assert workspace["full"][1] > workspace["keep"][1]


def test_processes_measure_their_link(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "profile.json"
    ended = profile(tmp_path, "--model", model, f"data.train={data}", "balance.text_cap=192", "train.threads=1",
                    "train.device=cpu", "--seconds", "0.5", "--out", out, "--json", ranks=2)  # fmt: skip
    assert ended.code == 0, ended.stderr
    table = json.loads(out.read_text())
    assert json.loads(ended.stdout) == table
    assert table["links"]["inside_node"]["bytes_per_second"] > 1e6
    assert table["links"]["between_nodes"]["bytes_per_second"] == 0
    assert table["links"]["devices_per_node"] == 2


def test_without_a_dataset_and_from_a_recipe(model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"model": {"path": str(model)}, "balance": {"text_cap": 256},
                                  "train": {"threads": 1, "device": "cpu"}}))  # fmt: skip
    out = tmp_path / "p.json"
    ended = profile(tmp_path, recipe, "--seconds", "0.5", "--clock", "cpu", "--out", out)
    assert ended.code == 0, ended.stderr
    assert set(json.loads(out.read_text())["blocks"]) == CLASSES
    assert "typical samples" in ended.stdout


def test_a_mesh_in_the_recipe_is_not_measured(model: Path, measured: tuple[dict[str, Any], Ended], tmp_path: Path) -> None:
    out = tmp_path / "p.json"
    ended = profile(tmp_path, "--model", model, "balance.text_cap=256", "train.threads=1", "train.device=cpu",
                    "parallel.tp=2", "parallel.pp=2", "--seconds", "0.5", "--out", out)  # fmt: skip
    assert ended.code == 0, ended.stderr
    note = "parallel.* of the recipe was not used"
    assert any(note in line for line in json.loads(out.read_text())["notes"]) and note in ended.stdout
    assert not any(note in line for line in measured[0]["notes"])


def test_computes_for_other_hardware(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "a100.json"
    ended = profile(tmp_path, "--model", model, "--hardware", "a100-80g", "--out", out)
    assert ended.code == 0, ended.stderr
    table = json.loads(out.read_text())
    assert table["origin"] == "analytic" and table["hardware"] == "a100-80g" and table["dtype"] == "bfloat16"
    assert set(table["blocks"]) == CLASSES


def test_measures_a_text_model(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    folder.mkdir()
    config = {"model_type": "qwen2", "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    out = tmp_path / "p.json"
    ended = profile(tmp_path, "--model", folder, "balance.text_cap=256", "train.threads=1", "train.device=cpu",
                    "--seconds", "0.5", "--out", out)  # fmt: skip
    assert ended.code == 0, ended.stderr
    assert set(json.loads(out.read_text())["blocks"]) == {name for name in CLASSES if name.startswith("text_")}


def test_samples_must_fit_into_the_caps(model: Path, data: Path, tmp_path: Path) -> None:
    ended = profile(tmp_path, "--model", model, f"data.train={data}", "balance.text_cap=10")
    assert ended.code == 2, ended.stderr
    for text in ("fits into a pack of 10 tokens (balance.text_cap)", "The shortest, sample ", "raise the caps"):
        assert text in ended.stderr, ended.stderr


def test_warns_of_too_few_sizes(model: Path, prepare: Callable[..., Path], tmp_path: Path) -> None:
    words = ["--model", model, f"data.train={prepare({'one': colour_talks(1, 1)})}", "--seconds", "0.2", "train.threads=1"]
    found = re.search(r"sample 0, has (\d+) tokens", profile(tmp_path, *words, "balance.text_cap=1").stderr)
    assert found
    # The only sample fits once: one size of pack for lines of two and three coefficients.
    out = tmp_path / "p.json"
    ended = profile(tmp_path, *words, f"balance.text_cap={found[1]}", "--out", out)
    assert ended.code == 0, ended.stderr
    assert "costs of text_layer blocks rest on 1 size of pack where 3 are needed" in ended.stderr
    assert any("text_layer blocks rest on 1 size" in note for note in json.loads(out.read_text())["notes"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["needs a recipe or --model FOLDER"]),
        (["missing.yaml"], ["missing.yaml"]),
        (["--model", "no/such/folder"], ["no/such/folder", "no folder"]),
        (["--model", "MODEL", "--hardware", "a100"], ["a100", "a100-80g"]),
        (["--model", "MODEL", "--hardware", "a100-80g", "--nproc", "2"], ["--nproc", "measures nothing"]),
        (["--model", "MODEL", "--hardware", "a100-80g", "--seconds", "1"], ["--seconds", "measures nothing", "leave --seconds out"]),
        (["--model", "MODEL", "--hardware", "a100-80g", "--clock", "cpu"], ["--clock", "measures nothing", "leave --clock out"]),
        (["--model", "MODEL", "--seconds", "0"], ["--seconds"]),
        (["--model", "MODEL", "--seconds", "soon"], ["--seconds", "soon"]),
        (["--model", "MODEL", "data.train=nowhere"], ["data.train", "nowhere", "no folder"]),
        (["--model", "MODEL", "--out", "no/folder/p.json"], ["--out", "no/folder", "make it first"]),
        (["--model", "MODEL", "--out", ""], ["--out", "the name is empty", "give the name of a file"]),
        (["--model", "MODEL", "--out", "."], ["--out", ". is a folder", "give the name of a file"]),
        (["--model", "MODEL", "--out", "missing/"], ["--out", "no folder missing", "make it first"]),
        (["--model", "MODEL", "balance.text_cap=10"], ["balance.text_cap is 10", "raise it"]),
        (["--model", "MODEL", "--clock", "cpu", "train.threads=2"], ["--clock cpu", "train.threads=1"]),
        (["--model", "MODEL", "balance.texct_cap=1"], ["balance.texct_cap", "text_cap"]),
        (["a.yaml", "--recipe", "b.yaml"], ["give one recipe"]),
    ],
)
def test_says_what_to_do(words: list[str], expected: list[str], model: Path, tmp_path: Path) -> None:
    ended = profile(tmp_path, *[str(model) if word == "MODEL" else word for word in words])
    assert ended.code == 2, ended.stderr
    for text in expected:
        assert text in ended.stderr, ended.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_names_a_folder_that_cannot_be_written(model: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    ended = profile(tmp_path, "--model", model, "--out", locked / "p.json")
    assert ended.code == 2 and "cannot be written" in ended.stderr
