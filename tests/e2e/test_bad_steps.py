"""Losses and gradients that aren't finite: the step is left out, the samples are named, too many in a row end the run."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from e2e_data import TINY, colour_talks, conversation, make_model
from e2e_tool import assert_same_bits
from safetensors.numpy import load_file, save_file


@pytest.fixture(scope="module")
def untied(folder):
    return make_model(folder / "untied", sizes={**TINY, "text.tie_word_embeddings": False})


@pytest.fixture(scope="module")
def one_strange_sample(prepare, untied):
    """Only sample 13 (line 14) says Q."""
    talks = colour_talks(0, 20)
    talks[13] = conversation(["red.png"], "Q?", "red")
    return prepare({"s": talks}, model_folder=untied)


@pytest.fixture()
def poisoned(trainer, untied, one_strange_sample, tmp_path):
    """Weights whose embedding of Q is not a number."""
    from transformers import AutoTokenizer

    change = {"model.path": str(untied), "data.train": str(one_strange_sample), "train.max_steps": 1, "optimizer.lr": 0}
    folder = trainer.run({**change, "checkpoint.export_hf": True}).folder / "hf"
    tensors = load_file(folder / "model.safetensors")
    (name,) = (name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors[name][AutoTokenizer.from_pretrained(folder).encode("Q")[0]] = math.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_bad_step_is_left_out_and_its_samples_are_named(trainer, poisoned, one_strange_sample, ranks):
    change = {"model.path": str(poisoned), "model.init": "pretrained", "data.train": str(one_strange_sample),
              "balance.micro_batches": 0, "balance.packs_per_step": 2, "train.max_steps": 0, "train.epochs": 2,
              "optimizer.weight_decay": 0}  # fmt: skip
    run, ended = trainer.end(change, ranks=ranks)
    assert ended.code == 0, ended.stderr
    bad = run.lines("skipped")
    assert [len(line["samples"]) for line in bad] == [1, 1]  # one per epoch
    assert all("s.jsonl line 14" in line["samples"][0] for line in bad)
    assert ended.stderr.count("was skipped") == 2 and "s.jsonl line 14" in ended.stderr
    good, total = run.column("step"), run.json("summary.json")["steps"]
    assert len(good) == total - 2 and np.isfinite(run.losses).all()
    assert sorted(good + [line["step"] for line in bad]) == list(range(1, total + 1))
    assert run.json("summary.json")["skipped_steps"] == 2
    assert run.state()["optimizer_steps"] == total - 2
    # Nothing but the poisoned row is touched by it.
    weights = run.tensors()
    assert {name for name, values in weights.items() if not np.isfinite(values).all()} == {"text.embed.weight"}
    assert (~np.isfinite(weights["text.embed.weight"])).any(axis=1).sum() == 1
    assert all(np.isfinite(values).all() for values in run.tensors("optimizer").values())


def test_too_many_bad_steps_end_the_run(trainer):
    run, ended = trainer.end({"optimizer.lr": 1e30, "optimizer.warmup_steps": 0, "train.max_bad_steps": 3, "train.max_steps": 50})
    assert ended.code == 2, ended.stderr
    assert "3 steps in a row" in ended.stderr and "train.max_bad_steps" in ended.stderr and "optimizer.lr" in ended.stderr
    assert len(run.lines("skipped")) == 3 and len(run.lines("train")) >= 1
    assert all(line["samples"] for line in run.lines("skipped"))
    assert not (run.folder / "summary.json").exists()
    assert all(json.dumps(line, allow_nan=False) for line in run.lines("skipped"))


def test_two_ranks_stop_together(trainer):
    run, job = trainer.start({"optimizer.lr": 1e30, "optimizer.warmup_steps": 0, "train.max_bad_steps": 2}, ranks=2)
    ended = job.wait()
    assert [process.returncode for process in job.processes] == [2, 2], ended.stderr
    assert "2 steps in a row" in ended.stderr


def test_weights_stay_when_all_steps_are_bad(trainer, poisoned, one_strange_sample, tmp_path):
    # A clean start, then every sample is the strange one.
    change = {"model.path": str(poisoned), "model.init": "pretrained", "data.train": str(one_strange_sample),
              "balance.packs_per_step": 20, "train.max_bad_steps": 100, "train.max_steps": 3, "optimizer.lr": 1.0}  # fmt: skip
    run = trainer.run({**change, "checkpoint.export_hf": True})
    assert len(run.lines("skipped")) == 3 and not run.lines("train")
    assert_same_bits(load_file(run.folder / "hf/model.safetensors"), load_file(poisoned / "model.safetensors"))
