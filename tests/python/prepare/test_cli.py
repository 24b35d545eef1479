"""The commands as users call them: exit codes, messages and the model folder's checks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prepare_samples import talk, write_lines

from gimbal.__main__ import run

PYTHON = str(Path(__file__).resolve().parents[3] / "python")


@pytest.fixture()
def data(folder):
    return write_lines(folder / "d.jsonl", [talk("q one", "answer", "a.png"), talk("q", "a", "gone.png"), talk("hello", "yes")])


@pytest.fixture()
def call(models, folder, data, capsys):
    def invoke(*arguments, model=None, out="out"):
        code = run(["prepare", "--model", str(model or models["internvl"]), "--data", data, "--out", str(folder / out), "--workers", "1", *arguments])
        return code, capsys.readouterr()

    return invoke


def test_prepare_and_its_summary(call, folder):
    code, output = call("--json")
    assert code == 0
    assert json.loads(output.out)["counts"]["samples"] == 2
    assert "rejected 1 samples" in output.err and "missing_file: an image file does not exist" in output.err


def test_strict_is_exit_code_2(call):
    code, output = call("--strict")
    assert code == 2 and "d.jsonl, line 2: missing_file" in output.err


def test_second_run_needs_overwrite(call):
    assert call()[0] == 0
    code, output = call()
    assert code == 2 and "--overwrite" in output.err
    assert call("--overwrite")[0] == 0


def test_no_usable_sample_is_exit_code_1(models, folder, capsys):
    data = write_lines(folder / "bad.jsonl", [talk("q", "a", "gone.png")])
    assert run(["prepare", "--model", str(models["internvl"]), "--data", data, "--out", str(folder / "o"), "--workers", "1"]) == 1
    assert "no usable sample" in capsys.readouterr().err


def test_config_file_with_overrides(models, folder, data, capsys):
    value = {"model": "/nowhere", "out": str(folder / "out"), "workers": 1, "sources": [{"name": "s", "files": [data], "weight": 2.5}]}
    (folder / "c.json").write_text(json.dumps(value))
    assert run(["prepare", "--config", str(folder / "c.json"), "--model", str(models["internvl"])]) == 0
    assert json.loads((folder / "out" / "manifest.json").read_text())["sources"][0]["weight"] == 2.5


def test_module_runs_as_a_program(models, folder, data):
    command = [sys.executable, "-m", "gimbal", "prepare", "--model", str(models["internvl"]), "--data", f"x={data}", "--source", "x=3", "--out", "out"]
    result = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": PYTHON}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "" and "2 samples" in result.stderr


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "usage: python -m gimbal"),
        (["prepar"], "did you mean 'prepare'"),
        (["zzz"], "use one of prepare"),
        (["prepare"], "missing --model, --data, --out"),
        (["prepare", "--modle", "x"], "--modle"),
        (["prepare", "--workers", "many"], "--workers"),
        (["prepare", "--media-root", "x"], "go with --data"),
        (["inspect"], "FOLDER"),
        (["inspect", "/nowhere"], "/nowhere: is no folder"),
    ],
)
def test_bad_command_lines_are_exit_code_2(arguments, words, capsys):
    assert run(arguments) == 2
    assert words in capsys.readouterr().err


def test_help(capsys):
    assert run(["--help"]) == 0
    assert "prepare" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        run(["prepare", "--help"])
    assert caught.value.code == 0 and "examples:" in capsys.readouterr().out


def edited(models, tmp_path, name, edit, base="internvl"):
    """A copy of a model folder with one JSON file changed; `edit` None removes it."""
    folder = tmp_path / "edited"
    shutil.copytree(models[base], folder)
    path = folder / name
    if edit is None:
        path.unlink()
    elif isinstance(edit, str):
        path.write_text(edit)
    else:
        value = json.loads(path.read_text())
        edit(value)
        path.write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize(
    "name, edit, words",
    [
        ("tokenizer.json", None, "no tokenizer"),
        ("tokenizer.json", "{}", "the tokenizer can't be loaded"),
        ("config.json", None, "no such file"),
        ("config.json", "[", "not readable as JSON"),
        ("config.json", "[]", "must hold a JSON object"),
        ("config.json", lambda v: v.update(model_type="gpt9"), "model_type 'gpt9' is not supported"),
        ("config.json", lambda v: v["text_config"].pop("vocab_size"), "vocab_size is missing"),
        ("config.json", lambda v: v["text_config"].update(vocab_size=10), "the model's vocab_size is 10"),
        ("config.json", lambda v: v.update(image_token_id=1), "image_token_id 1 differs"),
        ("config.json", lambda v: v.update(image_seq_length=9), "image_seq_length is 9, but image_size"),
        ("processor_config.json", lambda v: v.update(image_seq_length=9), "image_seq_length is 9, but image_size"),
        ("config.json", lambda v: v["vision_config"].update(image_size=[32, 32]), "vision_config.image_size is 32 x 32"),
        ("config.json", lambda v: v["vision_config"].update(patch_size=[4]), "vision_config.patch_size must be"),
        ("tokenizer_config.json", lambda v: (v.pop("start_image_token"), v["extra_special_tokens"].pop("start_image_token")), "'start_image_token' is missing"),
        ("tokenizer_config.json", lambda v: (v.update(start_image_token="two words"), v["extra_special_tokens"].update(start_image_token="two words")), "the model's vocab_size is"),
        ("preprocessor_config.json", None, "no image processor"),
        ("preprocessor_config.json", lambda v: v.update(image_processor_type="CLIPImageProcessor"), "'CLIPImageProcessor' is not supported"),
        ("preprocessor_config.json", lambda v: v.update(size={"shortest_edge": 3}), "must have height and width"),
        ("preprocessor_config.json", lambda v: v.update(min_patches=5), "min_patches 5 is above max_patches 1"),
    ],
)  # fmt: skip
def test_bad_model_folder_is_exit_code_2(call, models, tmp_path, name, edit, words):
    code, output = call(model=edited(models, tmp_path, name, edit))
    assert code == 2 and output.err.startswith("error: ")
    assert words in output.err and "Traceback" not in output.err


def test_folder_without_any_end_token(call, models, tmp_path, capsys):
    folder = edited(models, tmp_path, "config.json", lambda v: v.pop("eos_token_id"), base="llama")
    (folder / "generation_config.json").unlink()
    value = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**value, "eos_token": None}))
    code, output = call(model=folder)
    assert code == 2 and "no end token is known" in output.err


def test_nested_image_processor_settings(models, folder, data, tmp_path, capsys):
    model = edited(models, tmp_path, "preprocessor_config.json", None)
    (model / "processor_config.json").write_text(
        json.dumps({"image_seq_length": 4, "image_processor": {"image_processor_type": "GotOcr2ImageProcessorFast",
                    "size": {"height": 16, "width": 16}, "max_patches": 5, "image_mean": 0.5}})
    )  # fmt: skip
    assert run(["prepare", "--model", str(model), "--data", data, "--out", str(folder / "out"), "--workers", "1"]) == 0
    processor = json.loads((folder / "out" / "manifest.json").read_text())["image_processor"]
    # An absent crop_to_patches means what the InternVL processor does by itself: cut.
    assert processor["crop_to_patches"] is True and processor["max_patches"] == 5
    assert processor["image_mean"] == [0.5] * 3 and processor["type"] == "GotOcr2ImageProcessor"
