"""`gimbal inspect` and `gimbal export` on the checkpoints of a run in two processes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from e2e_tool import Run
from e2e_tool import run as program
from gimbal.__main__ import run as gimbal
from safetensors.numpy import load_file

KEPT = [2, 4, 5, 6]


@pytest.fixture(scope="module")
def sharded(trainer) -> Run:
    """Six steps with every parameter in two shards."""
    change = {"train.max_steps": 6, "checkpoint.every_steps": 1, "checkpoint.keep_last": 2, "checkpoint.keep_every": 2, "parallel.dp_shard": 2}
    return trainer.run(change, ranks=2)


def contents(tensors: dict[str, np.ndarray]) -> Counter:
    return Counter((value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()) for value in tensors.values())


def test_the_last_and_every_second_checkpoint_are_kept(sharded):
    assert [path.name for path in sharded.checkpoints()] == [f"step-{step:08d}" for step in KEPT]


def test_inspect_shows_the_run(sharded, capsys):
    assert gimbal(["inspect", str(sharded.folder), "--verify", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in value["checkpoints"]] == KEPT and value["unfinished"] == []
    assert value["newest"]["step"] == 6 and value["newest"]["mesh"] == "dp_shard 2"
    assert {name: entry["shape"] for name, entry in value["newest"]["parameters"].items()} == {
        name: list(tensor.shape) for name, tensor in sharded.tensors().items()
    }


@pytest.mark.parametrize(("step", "name"), [(None, ""), (4, "step-00000004"), (4, "4"), (2, "{folder}/checkpoints/step-00000002/")])
def test_export_writes_the_values_of_a_checkpoint(sharded, tmp_path, step, name):
    words = ["--checkpoint", name.format(folder=sharded.folder)] if name else []
    ended = program(["export", sharded.folder, "--out", tmp_path / "hf", *words], tmp_path / "log")
    assert ended.code == 0, ended.stderr
    assert contents(load_file(tmp_path / "hf" / "model.safetensors")) == contents(sharded.tensors(step=step))


def test_export_of_a_checkpoint_that_is_not_there(sharded, tmp_path):
    ended = program(["export", sharded.folder, "--out", tmp_path / "hf", "--checkpoint", "step-00000003"], tmp_path / "log")
    assert ended.code == 2 and "is not in" in ended.stderr and "step-00000002, step-00000004" in ended.stderr
