"""Evaluation, export and generation against `transformers` on the same folder, and against themselves by more processes."""

from __future__ import annotations

import json
import shutil

import pytest
from e2e_data import COLOURS, conversation
from e2e_tool import Run, run
from gimbal.dataset import Dataset
from PIL import Image


@pytest.fixture(scope="module")
def one_picture(prepare):
    """Questions that a tiny model learns in seconds, so that some answers are right and some wrong."""
    files = [f"{name}.{suffix}" for name in COLOURS for suffix in ("png", "jpg")]
    train = [conversation([file], question, file[:-4]) for file in files for question in ("which?", "the colour?")]
    # Even numbers: one picture and a known question. Odd ones: a second picture and a new question.
    test = []
    for i, name in enumerate(COLOURS * 4):
        question = ["which?", "which colour is the first of them?"][i % 2]
        test.append(conversation([f"{name}.png", "red.jpg"][: 1 + i % 2], question, name))
    return prepare({"s": train}), prepare({"s": test})


@pytest.fixture(scope="module")
def trained(trainer, one_picture):
    train, test = one_picture
    change = {"data.train": str(train), "data.eval": str(test), "train.max_steps": 60, "optimizer.lr": 4e-3,
              "checkpoint.export_hf": True, "evaluate.max_new_tokens": 6, "evaluate.every_steps": 30}  # fmt: skip
    return trainer.run(change)


def evaluated(words, log, **options):
    ended = run(["evaluate", *words, "evaluate.max_new_tokens=6", "train.device=cpu"], log, **options)
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout.strip().splitlines()[-1])


def predictions(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return {(row["sample"], row["span"]): row for row in rows}


@pytest.fixture(scope="module")
def alone(trained, one_picture, tmp_path_factory):
    """What `gimbal evaluate` says about the exported folder, with the packs of the run."""
    folder = tmp_path_factory.mktemp("alone")
    words = ["--model", trained.folder / "hf", "--data", one_picture[1], "evaluate.text_cap=192"]
    words += ["--json", folder / "out.json", "--predictions", folder / "p.jsonl"]
    figures = evaluated(words, folder / "log")
    assert json.loads((folder / "out.json").read_text()) == figures
    return figures, predictions(folder / "p.jsonl")


def test_evaluation_during_training_is_in_the_metrics(trained):
    assert [line["step"] for line in trained.lines("eval")] == [30, 60]
    assert trained.lines("eval")[-1]["loss"] == trained.json("eval.json")["loss"]
    assert trained.lines("eval")[1]["loss"] < trained.lines("eval")[0]["loss"]


def test_predictions_are_complete(trained, one_picture):
    data = Dataset(one_picture[1])
    rows = predictions(trained.folder / "predictions.jsonl")
    assert sorted(rows) == [(sample, 0) for sample in range(len(data))]
    figures = trained.json("eval.json")
    assert figures["answers"] == len(data) and figures["samples"] == len(data)
    assert figures["matches"] == sum(row["match"] for row in rows.values())
    assert figures["exact_match"] == figures["matches"] / figures["answers"]
    for (sample, _), row in rows.items():
        (begin, end), tokens = data.sample(sample).spans[0], data.sample(sample).tokens
        assert row["reference"] == tokens[begin : end - 1].tolist()  # without the end token
        assert row["match"] == (row["predicted"] == row["reference"])


def test_some_answers_are_right_and_some_wrong(trained):
    # So that the comparisons below have something to compare.
    figures = trained.json("eval.json")
    assert 0 < figures["matches"] < figures["answers"]


def test_the_exported_folder_evaluates_like_the_run(trained, alone):
    figures, rows = alone
    during = trained.json("eval.json")
    for key in ("loss", "loss_tokens", "answers", "matches", "samples"):
        assert figures[key] == during[key]
    assert rows == predictions(trained.folder / "predictions.jsonl")


@pytest.mark.parametrize("options", [{"ranks": 2}, {"ranks": 3}])
def test_evaluation_by_more_processes_is_the_same(trained, one_picture, alone, tmp_path, options):
    words = ["--model", trained.folder / "hf", "--data", one_picture[1], "--predictions", tmp_path / "p.jsonl", "evaluate.text_cap=40"]
    figures = evaluated(words, tmp_path / "log", **options)
    # The sum over packs in another order, in double precision; each pack's own sum is of float32 logits.
    assert figures["loss"] == pytest.approx(alone[0]["loss"], rel=1e-6)
    for key in ("loss_tokens", "answers", "matches", "samples"):
        assert figures[key] == alone[0][key]
    assert predictions(tmp_path / "p.jsonl") == alone[1]


def test_evaluation_through_nproc_writes_the_same_file(trained, one_picture, tmp_path):
    # One thread in each process: other numbers of threads round sums differently.
    words = ["--model", trained.folder / "hf", "--data", one_picture[1], "evaluate.text_cap=40", "train.threads=1"]
    single = evaluated([*words, "--predictions", tmp_path / "one.jsonl"], tmp_path / "log")
    double = evaluated([*words, "--predictions", tmp_path / "two.jsonl", "--nproc", "2"], tmp_path / "log")
    for figures, mesh in ((single, "1 device"), (double, "dp_replicate 2")):
        del figures["seconds"]
        assert figures.pop("mesh") == mesh
    assert double == {**single, "loss": pytest.approx(single["loss"], rel=1e-12)}
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_max_samples_takes_a_part(trained, one_picture, tmp_path):
    words = ["--model", trained.folder / "hf", "--data", one_picture[1], "evaluate.max_samples=5", "evaluate.generate=false"]
    figures = evaluated(words, tmp_path / "log")
    assert figures["samples"] == 5 and "matches" not in figures


@pytest.fixture(scope="module")
def peer(trained):
    """The exported folder in `transformers`: (network, pixels of a sample's pictures)."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageTextToText

    torch.set_num_threads(1)
    network = AutoModelForImageTextToText.from_pretrained(trained.folder / "hf", attn_implementation="eager").eval()
    processor = AutoImageProcessor.from_pretrained(trained.folder / "hf")

    def inputs(sample, length):
        images = [Image.open(item.path) for item in sample.media]
        given = {"input_ids": torch.tensor(sample.tokens[:length].astype("int64"))[None]}
        if images:
            given["pixel_values"] = processor(images=images, crop_to_patches=False, return_tensors="pt")["pixel_values"]
        return {**given, "attention_mask": torch.ones_like(given["input_ids"])}

    return network, inputs


def test_loss_is_that_of_transformers(peer, alone, one_picture):
    import torch

    network, inputs = peer
    total, count = 0.0, 0
    data = Dataset(one_picture[1])
    for number in range(len(data)):
        sample = data.sample(number)
        given = inputs(sample, len(sample.tokens))
        with torch.inference_mode():
            chances = torch.log_softmax(network(**given).logits[0].double(), dim=-1)
        for begin, end in sample.spans:
            for place in range(begin, end):
                total -= chances[place - 1, given["input_ids"][0, place]].item()
                count += 1
    assert count == alone[0]["loss_tokens"]
    # float32 logits, and JPEG pixels that two decoders may round to neighbouring values.
    assert alone[0]["loss"] == pytest.approx(total / count, rel=1e-4)


def test_answers_are_those_of_transformers(peer, alone, one_picture):
    import torch

    network, inputs = peer
    data = Dataset(one_picture[1])
    stops = set(data.manifest["model"]["eos_token_ids"])
    for (number, span), row in alone[1].items():
        sample = data.sample(number)
        begin = sample.spans[span][0]
        with torch.inference_mode():
            output = network.generate(**inputs(sample, begin), do_sample=False, max_new_tokens=6)[0, begin:].tolist()
        answer = output[: next((i for i, token in enumerate(output) if token in stops), len(output))]
        assert row["match"] == (answer == row["reference"])
        # An answer that is already longer than the longest reference is not written to its end.
        assert row["predicted"] == answer[: len(row["predicted"])] and (row["match"] or row["predicted"])


def test_export_writes_the_folder_of_the_run(trained, tmp_path):
    ended = run(["export", trained.folder, "--out", tmp_path / "out"], tmp_path / "log")
    assert ended.code == 0, ended.stderr
    assert json.loads(ended.stdout) == {"model": str(tmp_path / "out"), "step": 60}
    names = {path.name for path in (trained.folder / "hf").iterdir()}
    assert names == {path.name for path in (tmp_path / "out").iterdir()} and "tokenizer.json" in names
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (trained.folder / "hf" / name).read_bytes(), name


def test_export_of_an_unfinished_run(trainer, tmp_path):
    run_ = trainer.run({"train.max_steps": 4, "checkpoint.every_steps": 2})
    shutil.rmtree(run_.checkpoints()[-1])
    (run_.folder / "summary.json").unlink()
    ended = run(["export", run_.folder, "--out", tmp_path / "out"], tmp_path / "log")
    assert ended.code == 0 and json.loads(ended.stdout)["step"] == 2, ended.stderr


def test_export_of_a_folder_without_checkpoints(tmp_path):
    ended = run(["export", tmp_path, "--out", tmp_path / "out"], tmp_path / "log")
    assert ended.code == 2 and str(tmp_path) in ended.stderr
    assert not (tmp_path / "out").exists()


def test_going_on_from_the_exported_folder(trainer, trained, one_picture):
    """Its loss at step 1 is that of the weights that were saved, and no longer that of random ones."""
    change = {"data.train": str(one_picture[0]), "model.path": str(trained.folder / "hf"), "model.init": "pretrained", "train.max_steps": 1}
    again: Run = trainer.run(change)
    assert again.losses[0] == pytest.approx(trained.losses[-1], rel=0.5) and again.losses[0] < 0.3 * trained.losses[0]


@pytest.mark.parametrize("place", ["hf", "."])
def test_generate_answers_like_the_evaluation(trained, folder, alone, tmp_path, place):
    from transformers import AutoTokenizer

    # Sample 2 is blue.png with this question.
    words = ["generate", "--model", trained.folder / place, "--image", folder / "blue.png", "--prompt", "which?", "--max-new-tokens", "6"]
    ended = run(words, tmp_path / "log")
    assert ended.code == 0, ended.stderr
    predicted = AutoTokenizer.from_pretrained(trained.folder / "hf").decode(alone[1][2, 0]["predicted"])
    assert predicted and ended.stdout.strip() == predicted.strip()


def test_a_run_without_an_export_answers_from_its_checkpoint(trainer, tmp_path):
    unexported = trainer.run({"train.max_steps": 2})
    assert not (unexported.folder / "hf").exists()
    words = ["generate", "--prompt", "which colours?", "--max-new-tokens", "4", "--json"]
    answers = []
    for model in (unexported.folder, tmp_path / "exported"):
        if model != unexported.folder:
            assert run(["export", unexported.folder, "--out", model], tmp_path / "export.log").code == 0
        ended = run([*words, "--model", model], tmp_path / "generate.log")
        assert ended.code == 0, ended.stderr
        answers.append(json.loads(ended.stdout))
    assert answers[0] == answers[1] and 0 < len(answers[0]["tokens"]) <= 4
