"""What a user can get wrong: each mistake ends with exit code 2 and a message that names it."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest
from e2e_data import TINY, colour_talks, conversation, make_model
from e2e_tool import run as program
from e2e_tool import Job, Run, run
from mesh_tool import mesh
from PIL import Image
from safetensors.numpy import load_file, save_file

FEW = {"train.max_steps": 3}


@pytest.fixture()
def picture_data(prepare, tmp_path):
    """A dataset of three conversations, each with a picture of its own in tmp_path: 0.png, 1.jpg, 2.png."""
    samples = []
    for number, suffix in enumerate(("png", "jpg", "png")):
        path = tmp_path / f"{number}.{suffix}"
        noise = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        samples.append(conversation([str(path)], "what is it?", "noise"))
    return prepare({"noise": samples})


@pytest.fixture(scope="module")
def weights(trainer):
    """A model folder with weights."""
    return trainer.run({"train.max_steps": 1, "checkpoint.export_hf": True}).folder / "hf"


@pytest.fixture()
def model_copy(weights, tmp_path):
    return shutil.copytree(weights, tmp_path / "model")


def pretrained(folder):
    return {**FEW, "model.path": str(folder), "model.init": "pretrained"}


# Pictures.


@pytest.mark.parametrize("ranks", [1, 2])
def test_picture_deleted_after_prepare(trainer, picture_data, tmp_path, ranks):
    (tmp_path / "1.jpg").unlink()
    change = {**FEW, "data.train": str(picture_data), "balance.samples_per_pack": 1, "balance.packs_per_step": 2}
    run_, job = trainer.start(change, ranks=ranks)
    ended = job.wait()
    # The rank with the picture says so; the other one may only see that its partner has gone.
    codes = [process.returncode for process in job.processes]
    assert 2 in codes and min(codes) > 0, (codes, ended.stderr)  # below 0: ended by a signal, without a message
    assert str(tmp_path / "1.jpg") in ended.stderr and "noise.jsonl line 2" in ended.stderr


@pytest.mark.parametrize("axis", ["sp", "tp", "pp"])
def test_a_picture_is_opened_by_the_rank_that_needs_it_alone(trainer, prepare, tmp_path, axis):
    # Two pictures of one size in each pack: with sp and tp one for each rank, with pp both for the first stage.
    samples = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((40, 40, 3), 60 * number, dtype=np.uint8)).save(path)
        samples.append(conversation([str(path)], "what is it?", "grey"))
    change = {**FEW, **mesh(**{axis: 2}), "data.train": str(prepare({"grey": samples})), "balance.samples_per_pack": 2,
              "balance.packs_per_step": 1, "balance.text_cap": 1024}  # fmt: skip
    trainer.run(change, ranks=2)
    (tmp_path / "1.png").unlink()
    _, job = trainer.start(change, ranks=2)
    ended = job.wait()
    codes = [process.returncode for process in job.processes]
    assert 2 in codes and min(codes) > 0, (codes, ended.stderr)
    named = [line for line in ended.stderr.splitlines() if str(tmp_path / "1.png") in line]
    assert len(named) == 1 and "grey.jsonl line 2" in named[0], ended.stderr


def test_finished_steps_are_saved_when_a_later_picture_is_gone(trainer, picture_data, tmp_path):
    change = {"data.train": str(picture_data), "balance.samples_per_pack": 1, "balance.packs_per_step": 1, "train.max_steps": 40,
              "data.prefetch_packs": 1, "train.seed": 3}  # fmt: skip
    whole = trainer.run(change)
    (tmp_path / "1.jpg").rename(tmp_path / "away.jpg")
    run, ended = trainer.end(change)
    finished = len(run.lines("train"))
    assert ended.code == 2 and run.state()["step"] == finished > 0
    assert f"saved step {finished} before leaving; the same command goes on from there" in ended.stderr
    (tmp_path / "away.jpg").rename(tmp_path / "1.jpg")
    trainer.run(change, run=run)
    assert all((run.tensors()[name] == value).all() for name, value in whole.tensors().items())


def test_finished_steps_are_saved_when_an_evaluation_fails(trainer, picture_data, tmp_path):
    (tmp_path / "1.jpg").unlink()
    change = {"data.eval": str(picture_data), "train.max_steps": 9, "evaluate.every_steps": 3, "train.resume": False}
    run, ended = trainer.end(change)
    assert ended.code == 2 and str(tmp_path / "1.jpg") in ended.stderr
    assert "saved step 3 before leaving; the same command with train.resume=true goes on from there" in ended.stderr
    assert run.state()["step"] == 3


def test_export_leaves_other_folders_alone(trainer, tmp_path):
    run = trainer.run({"train.max_steps": 1})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    ended = program(["export", run.folder, "--out", tmp_path / "mine"], tmp_path / "log")
    assert ended.code == 2 and "is no export of gimbal" in ended.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    # A model that somebody has downloaded, and an export with a file of the user's.
    (tmp_path / "mine" / "config.json").write_text("{}")
    ended = program(["export", run.folder, "--out", tmp_path / "mine"], tmp_path / "log")
    assert ended.code == 2 and "is no export of gimbal" in ended.stderr
    for _ in range(2):
        ended = program(["export", run.folder, "--out", tmp_path / "hf"], tmp_path / "log")
        assert ended.code == 0, ended.stderr
    assert f"'{tmp_path / 'hf'}': the export of step 1 has replaced the one of step 1" in ended.stderr
    (tmp_path / "hf" / "notes.md").write_text("what I think of it")
    ended = program(["export", run.folder, "--out", tmp_path / "hf"], tmp_path / "log")
    assert ended.code == 2 and "has not written 'notes.md', which would be lost" in ended.stderr
    assert (tmp_path / "hf" / "notes.md").exists()


def test_picture_deleted_after_prepare_through_nproc(trainer, picture_data, tmp_path):
    (tmp_path / "0.png").unlink()
    change = {**FEW, "data.train": str(picture_data), "balance.samples_per_pack": 1, "balance.packs_per_step": 2}
    message = trainer.refused(change, nproc=2)
    assert str(tmp_path / "0.png") in message and "noise.jsonl line 1" in message


def test_truncated_jpeg(trainer, picture_data, tmp_path):
    path = tmp_path / "1.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = trainer.refused({**FEW, "data.train": str(picture_data)})
    assert str(path) in message and "noise.jsonl line 2" in message
    assert any(word in message for word in ("ends early", "truncated", "Premature")), message


def test_picture_of_another_size_since_prepare(trainer, picture_data, tmp_path):
    Image.new("RGB", (50, 20)).save(tmp_path / "2.png")
    message = trainer.refused({**FEW, "data.train": str(picture_data)})
    assert str(tmp_path / "2.png") in message and "noise.jsonl line 3" in message
    assert "50 x 20" in message and "40 x 40" in message and "gimbal prepare" in message


def test_picture_replaced_by_text_since_prepare(trainer, picture_data, tmp_path):
    (tmp_path / "2.png").write_text("no picture at all")
    message = trainer.refused({**FEW, "data.train": str(picture_data)})
    assert str(tmp_path / "2.png") in message and "no JPEG, PNG or WebP" in message


def test_bad_lines_are_listed_and_strict_stops(model, tmp_path):
    (tmp_path / "fake.png").write_text("no picture at all")
    Image.new("RGB", (8, 8)).save(tmp_path / "good.png")
    two_marks = [{"role": "user", "content": "<image> <image>"}, {"role": "assistant", "content": "a"}]
    lines = [conversation([name], "q", "a") for name in ("good.png", "fake.png", "gone.png")]
    lines.append({"messages": two_marks, "images": ["good.png"]})
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["prepare", "--model", model, "--data", source, "--workers", "1", "--out"]
    ended = run([*words, tmp_path / "out"], tmp_path / "log")
    assert ended.code == 0, ended.stderr
    rejected = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert [(line["line"], line["reason"]) for line in rejected] == [(2, "unreadable_image"), (3, "missing_file"), (4, "placeholder_count")]
    assert "fake.png" in rejected[0]["detail"] and "gone.png" in rejected[1]["detail"]
    ended = run([*words, tmp_path / "strict", "--strict"], tmp_path / "log")
    assert ended.code == 2 and "fake.png" in ended.stderr and "source.jsonl" in ended.stderr, ended.stderr
    assert not (tmp_path / "strict/manifest.json").exists()


# The recipe.


def test_unknown_key_and_wrong_type_are_reported_together(trainer, tmp_path):
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(trainer.recipe.read_text().replace('"warmup_steps"', '"warmup_step"').replace('"seed": 3', '"seed": three'))
    message = trainer.refused(recipe=recipe)
    assert "bad.yaml" in message and "optimizer.warmup_step" in message and "warmup_steps" in message
    assert "train.seed" in message and "three" in message


def test_unknown_override_and_wrong_value(trainer):
    message = trainer.refused({"train.max_step": 3, "optimizer.lr": "fast", "balance.text_cap": 0})
    assert "train.max_step" in message and "train.max_steps" in message
    assert "optimizer.lr" in message and "fast" in message


def test_recipe_that_does_not_exist(trainer, tmp_path):
    assert "nowhere.yaml" in trainer.refused(recipe=tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("key", ["data.weights", "model.freeze", "optimizer.groups", "model.recompute_blocks"])
def test_names_that_match_nothing(trainer, key):
    value = {"data.weights": {"nothing": 2.0}, "optimizer.groups": [{"pattern": "nothing"}]}.get(key, ["nothing"])
    recompute = {"model.recompute": "full"} if key == "model.recompute_blocks" else {}
    message = trainer.refused({**FEW, key: value, **recompute})
    assert "nothing" in message and key in message


def test_sample_longer_than_a_cap(trainer):
    message = trainer.refused({**FEW, "balance.text_cap": 100})
    assert "balance.text_cap" in message and "100" in message
    message = trainer.refused({**FEW, "balance.vision_cap": 2})
    assert "balance.vision_cap" in message and "4 vision rows" in message


def test_caps_that_reject_every_sample(trainer):
    message = trainer.refused({**FEW, "balance.text_cap": 2, "balance.oversize": "reject"})
    assert "every sample is above a cap" in message and "balance.text_cap" in message


def test_weights_that_leave_no_source(trainer):
    message = trainer.refused({**FEW, "data.weights": {"colours": 0}})
    assert "data.weights" in message and "0" in message


def test_cuda_without_a_gpu(trainer):
    assert "train.device" in trainer.refused({**FEW, "train.device": "cuda", "train.threads": 1}, environment={"CUDA_VISIBLE_DEVICES": ""})


# The model folder.


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_model_folder_without_a_file(trainer, model_copy, missing):
    (model_copy / missing).unlink()
    message = trainer.refused(pretrained(model_copy))
    assert str(model_copy) in message
    assert {"tokenizer.json": "tokenizer"}.get(missing, missing) in message


def test_prepare_with_a_model_folder_without_tokenizer(model_copy, folder, tmp_path):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model_copy / name).unlink()
    (tmp_path / "s.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    words = ["prepare", "--model", model_copy, "--data", tmp_path / "s.jsonl", "--out", tmp_path / "out"]
    ended = run(words, tmp_path / "log")
    assert ended.code == 2 and str(model_copy) in ended.stderr and "tokenizer" in ended.stderr, ended.stderr
    assert "Traceback" not in ended.stderr


def test_model_folder_that_does_not_exist(trainer, tmp_path):
    assert str(tmp_path / "none") in trainer.refused(pretrained(tmp_path / "none"))


def changed_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.endswith("q_proj.weight") and "language_model" in name)
    change(tensors, name)
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    return name


def test_missing_weight(trainer, model_copy):
    name = changed_weights(model_copy, lambda tensors, name: tensors.pop(name))
    message = trainer.refused(pretrained(model_copy))
    assert str(model_copy) in message and f"no weight '{name}'" in message and "nearest name" in message


def test_weight_with_the_wrong_shape(trainer, model_copy):
    def cut(tensors, name):
        tensors[name] = tensors[name][:-1]

    name = changed_weights(model_copy, cut)
    message = trainer.refused(pretrained(model_copy))
    assert str(model_copy) in message and name in message and "[31, 32]" in message and "[32, 32]" in message


def test_weights_that_are_cut_off(trainer, model_copy):
    path = model_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    message = trainer.refused(pretrained(model_copy))
    assert str(path) in message


def test_data_of_another_tokenizer(trainer, tmp_path):
    other = make_model(tmp_path / "other", vocab_size=300)
    message = trainer.refused({**FEW, "model.path": str(other)})
    assert str(other) in message and "gimbal prepare" in message
    assert "tokenizer" in message or "vocab_size" in message


def test_data_of_another_tokenizer_of_the_same_size(trainer, model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    (other / "chat_template.jinja").write_text((other / "chat_template.jinja").read_text() + " ")
    message = trainer.refused({**FEW, "model.path": str(other)})
    assert str(other) in message and "another tokenizer" in message


def test_pictures_for_a_text_model(trainer, tmp_path):
    text = make_model(tmp_path / "text", family="qwen2", sizes={k: v for k, v in TINY.items() if k.startswith("text")})
    message = trainer.refused({**FEW, "model.path": str(text)})
    assert str(text) in message


# Folders.


def test_dataset_that_does_not_exist(trainer, tmp_path):
    assert str(tmp_path / "none") in trainer.refused({**FEW, "data.train": str(tmp_path / "none")})


def test_eval_dataset_that_does_not_exist_is_found_before_training(trainer, tmp_path):
    run_, ended = trainer.end({**FEW, "data.eval": str(tmp_path / "none")})
    assert ended.code == 2 and str(tmp_path / "none") in ended.stderr
    assert not run_.lines("train"), "the mistake is found only after training"


def test_dataset_without_samples(trainer, prepare):
    empty = prepare({"s": []})
    message = trainer.refused({**FEW, "data.train": str(empty)})
    assert str(empty) in message and "no usable sample" in message


def test_damaged_dataset(trainer, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    tokens = (copy / "tokens.bin").read_bytes()
    (copy / "tokens.bin").write_bytes(tokens[:-4])
    message = trainer.refused({**FEW, "data.train": str(copy)})
    assert str(copy / "tokens.bin") in message and "gimbal prepare" in message


def test_run_folder_that_is_a_file(trainer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in ("file", "file/below"):
        message = trainer.refused(FEW, run=Run(tmp_path / place))
        assert str(tmp_path / "file") in message


def test_evaluate_without_weights(model, held_out, tmp_path):
    ended = run(["evaluate", "--model", model, "--data", held_out], tmp_path / "log")
    assert ended.code == 2 and str(model) in ended.stderr and "no weights" in ended.stderr


def test_interrupted_prepare(trainer, model, tmp_path):
    source = tmp_path / "s.jsonl"
    talks = [talk for talk in colour_talks(0, 4000) if len(talk["messages"][0]["content"]) == 1]
    source.write_text("".join(json.dumps(talk) + "\n" for talk in talks * 2))
    words = ["prepare", "--model", str(model), "--data", str(source), "--workers", "1", "--out"]

    def bytes_of(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".bin", ".jsonl")}

    unfinished = tmp_path / "killed.partial"
    job = Job([*words, str(tmp_path / "killed")], tmp_path / "log")
    job.wait_until(lambda: (unfinished / "tokens.bin").exists())
    job.close()
    assert job.processes[0].returncode == -signal.SIGKILL and unfinished.is_dir()
    for folder, problem in ((tmp_path / "killed", "gimbal prepare"), (unfinished, "unfinished")):
        message = trainer.refused({**FEW, "data.train": str(folder)})
        assert str(folder) in message and problem in message
    assert run([*words, str(tmp_path / "killed")], tmp_path / "log").code == 0
    assert run([*words, str(tmp_path / "whole")], tmp_path / "log").code == 0
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


def test_broken_variables_of_a_launcher(trainer, monkeypatch):
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    message = trainer.refused(FEW)
    assert "SLURM_PROCID" in message and os.environ["SLURM_STEP_ID"]


def test_a_run_that_goes_on_with_other_packs(trainer):
    run_ = trainer.run({**FEW, "optimizer.schedule": "constant"})
    message = trainer.refused({**FEW, "balance.text_cap": 250, "train.seed": 9}, run=run_)
    assert f"the run in '{run_.folder}' cannot go on: this recipe gives another order of samples" in message
    assert "balance.text_cap is 250; the run began with 192" in message and "train.seed is 9; the run began with 3" in message
    assert "vision_cap" not in message and "patterns" not in message and "another train.run" in message
