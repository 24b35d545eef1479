"""`gimbal inspect`."""

import json
import shutil

import numpy as np
import pytest
from prepare_samples import talk, write_lines

from gimbal import UserError
from gimbal.__main__ import run
from gimbal.dataset import Dataset
from gimbal.inspect.histogram import format_histogram, histogram
from gimbal.prepare import PrepareConfig, Source, prepare


@pytest.fixture()
def dataset(models, folder):
    data = write_lines(folder / "d.jsonl", [talk("which shape?", "a circle", "a.png", "c.webp"), talk("q", "a", "gone.png"), talk("hello", "yes")])
    prepare(PrepareConfig(str(models["tiled"]), [Source("shapes", [data], 2.0)], str(folder / "out"), 1))
    return folder / "out"


def test_summary(dataset, capsys):
    assert run(["inspect", str(dataset)]) == 0
    text = capsys.readouterr().out
    for words in ("2 samples, 1 rejected", "shapes: 2 samples, weight 2, 1 rejected", "2 distinct images, shown 2 times, 12 tiles",
                  "tokens per sample: min", "tiles per sample: min 0", "missing_file", "line 2", "####"):
        assert words in text


def test_summary_as_json(dataset, capsys):
    assert run(["inspect", str(dataset), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["counts"]["samples"] == 2 and value["vision"]["max"] == 12
    assert sum(count for _, _, count in value["text"]["bins"]) == 2
    assert value["rejected_by_reason"] == {"missing_file": 1}


def test_sample_shows_its_loss_mask_and_pictures(dataset, capsys):
    assert run(["inspect", str(dataset), "--sample", "0", "--sample", "1"]) == 0
    text = capsys.readouterr().out
    assert "image 1: 40 x 16 pixels, 5 x 2 tiles and a thumbnail, a.png" in text
    assert "image 2: 16 x 16 pixels, 1 x 1 tiles, c.webp" in text
    assert "<img><<IMG_CONTEXT> x 44></img>\n<img><<IMG_CONTEXT> x 4></img>\nwhich shape?<|im_end|>\n" in text
    assert "assistant\n[[a circle<|im_end|>]]\n" in text
    assert "assistant\n[[yes<|im_end|>]]\n" in text


def test_sample_in_color_on_a_terminal(dataset, capsys, monkeypatch):
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run(["inspect", str(dataset), "--sample", "1"]) == 0
    assert "assistant\n\x1b[1;32myes<|im_end|>\x1b[0m\n" in capsys.readouterr().out


def test_sample_as_json(dataset, capsys):
    assert run(["inspect", str(dataset), "--sample", "1", "--json"]) == 0
    (sample,) = json.loads(capsys.readouterr().out)["samples"]
    assert [s["text"] for s in sample["segments"] if s["loss"]] == ["yes<|im_end|>"]
    assert sample["segments"][-1]["end"] == sample["num_tokens"] and sample["line"] == 3


def test_tokenizer_of_another_folder(dataset, models, tmp_path, capsys):
    shutil.copytree(models["tiled"], tmp_path / "copy")
    assert run(["inspect", str(dataset), "--sample", "0", "--model", str(tmp_path / "copy")]) == 0
    assert run(["inspect", str(dataset), "--sample", "0", "--model", str(models["qwen2"])]) == 2
    assert "is not the one that" in capsys.readouterr().err
    assert run(["inspect", str(dataset), "--sample", "0", "--model", "/nowhere"]) == 2
    assert "model folder is gone" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["2", "-1"])
def test_sample_that_does_not_exist(dataset, number, capsys):
    assert run(["inspect", str(dataset), "--sample", number]) == 2
    assert f"no sample {number}; it has samples 0 to 1" in capsys.readouterr().err


def break_json(path):
    path.write_text("{")


@pytest.mark.parametrize(
    "name, damage, words",
    [
        ("manifest.json", lambda path: path.unlink(), "no such file"),
        ("manifest.json", break_json, "not readable"),
        ("manifest.json", lambda path: path.write_text('{"format": "gimbal-dataset", "version": 9}'), "version 9"),
        ("index.bin", lambda path: path.write_bytes(b"x"), "1 bytes, the manifest says 128"),
        ("tokens.bin", lambda path: path.unlink(), "no file, the manifest says"),
    ],
)
def test_damaged_dataset(dataset, name, damage, words):
    damage(dataset / name)
    with pytest.raises(UserError, match=words):
        Dataset(dataset)


def test_unfinished_dataset_is_named(dataset):
    dataset.rename(dataset.with_name("d.partial"))
    with pytest.raises(UserError, match="unfinished one, run gimbal prepare again"):
        Dataset(dataset.with_name("d"))


def test_histogram_counts_everything_once():
    draw = np.random.default_rng(1)
    for values in (np.array([7]), np.arange(100), draw.integers(0, 10**6, 500), np.array([5, 5, 5])):
        result = histogram(values)
        assert sum(count for _, _, count in result["bins"]) == len(values) and len(result["bins"]) <= 12
        for low, high, count in result["bins"]:
            assert count == ((values >= low) & (values < high)).sum()
        assert (result["min"], result["max"]) == (values.min(), values.max())
    assert format_histogram("x", histogram(np.zeros(0))) == ["x: none"]
