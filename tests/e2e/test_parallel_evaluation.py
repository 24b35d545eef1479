"""Evaluation on meshes gives what one process gives; it stops early when asked, and refuses ranks with other data."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from e2e_data import COLOURS, colour_talks, conversation
from e2e_tool import environment, free_port, run, words_of
from gimbal.generate.programs import find_program
from mesh_tool import mesh

KEYS = ("loss_tokens", "samples", "answers", "matches", "exact_match")
SETTINGS = ["model.dtype=float64", "train.device=cpu", "train.threads=1", "train.timeout_seconds=30", "evaluate.max_new_tokens=10"]
# One answer at a time: 11 passes, whose answers are of unlike length.
SINGLE = {"evaluate.text_cap": 1, "evaluate.max_samples": 11}

INTERLEAVED = {"parallel.schedule": "interleaved", "parallel.stages_per_rank": 2}
MESHES = [
    ({"dp_shard": 2}, {"parallel.weights": "reshard"}),
    ({"sp": 2}, {}),
    ({"tp": 2}, {}),
    ({"pp": 2}, {"parallel.stage_starts": ["text.head"]}),
    ({"pp": 2}, INTERLEAVED),
    ({"pp": 2, "dp_shard": 2}, {}),
]
SLOW_MESHES = [
    ({"pp": 2}, {}),
    ({"pp": 2}, {"parallel.stage_starts": ["text.norm"]}),
    ({"pp": 2}, {"parallel.stage_starts": ["vision.1"]}),
    ({"pp": 4}, {"parallel.schedule": "gpipe"}),
    ({"dp_shard": 2}, {}),
    ({"dp_shard": 4}, {}),
    ({"dp_replicate": 2, "dp_shard": 2}, {}),
    ({"sp": 2, "tp": 2}, {}),
    ({"dp_shard": 2, "tp": 2}, {"parallel.weights": "reshard"}),
    ({"pp": 2, "sp": 2}, {}),
]


def name_of(case: Any) -> str:
    return "_".join(f"{key.split('.')[-1]}{value}" for key, value in case.items()) or "default"


@pytest.fixture(scope="module")
def questions(prepare) -> tuple[Path, Path]:
    """Data to learn from and data to answer: answers of one and two words, questions that were seen and others."""

    def talks(number: int, question: str) -> list[dict[str, Any]]:
        made = []
        for i in range(number):
            names = [COLOURS[i % 4], COLOURS[i % 3]][: 1 + i % 2]
            made.append(conversation(["red.png", "blue.png"][: i % 3], f"{question} {' '.join(names)}", " ".join(names)))
        return made

    return prepare({"s": talks(12, "say")}), prepare({"s": talks(15, "say") + talks(8, "which colours are these?")})


@pytest.fixture(scope="module")
def weights(trainer, questions, mesh_model) -> Path:
    """A model folder that answers some of the questions."""
    change = {"model.path": str(mesh_model), "data.train": str(questions[0]), "train.max_steps": 120, "optimizer.lr": 4e-3,
              "checkpoint.export_hf": True}  # fmt: skip
    return trainer.run(change).folder / "hf"


def evaluated(weights: Path, data: Path, folder: Path, change: dict[str, Any], ranks: int = 1) -> tuple[dict[str, Any], str]:
    """The figures, and the file of predictions."""
    words = ["evaluate", "--model", weights, "--data", data, "--predictions", folder / "p.jsonl", *SETTINGS, *words_of(change)]
    ended = run(words, folder / "log", ranks=ranks)
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout), (folder / "p.jsonl").read_text()


@pytest.fixture(scope="module")
def alone(weights, questions, tmp_path_factory) -> dict[str, tuple[dict[str, Any], str]]:
    """One process, by the packs: those of the recipe, and single samples."""
    found = {}
    for name, change in (("packs", {}), ("single", SINGLE)):
        found[name] = evaluated(weights, questions[1], tmp_path_factory.mktemp(name), change)
    return found


def check_same(found: tuple[dict[str, Any], str], expected: tuple[dict[str, Any], str]) -> None:
    assert {key: found[0][key] for key in KEYS} == {key: expected[0][key] for key in KEYS}
    # float64 sums in another order.
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-11)
    assert found[1] == expected[1]


def test_the_reference_has_something_to_compare(alone):
    for figures, text in alone.values():
        rows = [json.loads(line) for line in text.splitlines()]
        assert figures["samples"] == len(rows) and 0 < figures["matches"] < figures["answers"]
        # Ranks with other answers are ready at other times.
        assert len(Counter(len(row["predicted"]) for row in rows)) >= 3
    assert alone["single"][0]["answers"] % 2 == 1


def check_mesh(weights, questions, alone, tmp_path, axes, more, packs) -> None:
    ranks = 1
    for size in axes.values():
        ranks *= size
    change = {**mesh(**axes), **more, **(SINGLE if packs == "single" else {})}
    check_same(evaluated(weights, questions[1], tmp_path, change, ranks), alone[packs])


@pytest.mark.parametrize("axes, more", MESHES, ids=name_of)
def test_a_mesh_evaluates_like_one_process(weights, questions, alone, tmp_path, axes, more):
    check_mesh(weights, questions, alone, tmp_path, axes, more, "single")


@pytest.mark.slow
@pytest.mark.parametrize("packs", ["packs", "single"])
@pytest.mark.parametrize("axes, more", SLOW_MESHES, ids=name_of)
def test_other_meshes_evaluate_like_one_process(weights, questions, alone, tmp_path, axes, more, packs):
    check_mesh(weights, questions, alone, tmp_path, axes, more, packs)


@pytest.mark.slow
@pytest.mark.parametrize("axes, more", MESHES, ids=name_of)
def test_packs_of_many_evaluate_alike(weights, questions, alone, tmp_path, axes, more):
    check_mesh(weights, questions, alone, tmp_path, axes, more, "packs")


@pytest.mark.slow
@pytest.mark.parametrize("axes", [{"dp_shard": 4}, {"pp": 2, "dp_shard": 2}], ids=name_of)
def test_ranks_without_any_sample(weights, questions, tmp_path, axes):
    one, four = tmp_path / "one", tmp_path / "four"
    one.mkdir()
    four.mkdir()
    change = {**SINGLE, "evaluate.max_samples": 1}
    expected = evaluated(weights, questions[1], one, change)
    check_same(evaluated(weights, questions[1], four, {**change, **mesh(**axes)}, 4), expected)


@pytest.mark.slow
def test_evaluation_while_training_on_a_mesh(trainer, questions, mesh_model):
    change = {"model.path": str(mesh_model), "model.dtype": "float64", "data.train": str(questions[0]), "data.eval": str(questions[1]),
              "train.max_steps": 2, "evaluate.max_new_tokens": 6, **SINGLE}  # fmt: skip
    runs = [trainer.run(change), trainer.run({**change, **mesh(pp=2, dp_shard=2)}, ranks=4)]
    one, two = [(run_.json("eval.json"), (run_.folder / "predictions.jsonl").read_text()) for run_ in runs]
    check_same(two, one)


def test_a_mesh_that_is_not_the_processes(weights, questions, tmp_path):
    words = ["evaluate", "--model", weights, "--data", questions[1], *SETTINGS, "parallel.dp_shard=2"]
    ended = run(words, tmp_path / "log")
    assert ended.code == 2 and "dp_shard 2" in ended.stderr and "--nproc" in ended.stderr, ended.stderr


def start_in(folders: list[Path], words: list[Any]) -> list[subprocess.Popen[bytes]]:
    """One rank in each folder."""
    port = str(free_port())
    common = {"WORLD_SIZE": str(len(folders)), "LOCAL_WORLD_SIZE": str(len(folders)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [str(Path(find_program("gimbal")).absolute()), *map(str, words)],
            cwd=folder,
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **common),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank, folder in enumerate(folders)
    ]


def errors_of(processes: list[subprocess.Popen[bytes]]) -> str:
    """What ranks say that all end with exit code 2."""
    try:
        text = "".join(process.communicate(timeout=60)[1].decode() for process in processes)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2] * len(processes), text
    return text


@pytest.fixture
def unlike_folders(questions, tmp_path) -> list[Path]:
    """Two machines that have another dataset each under the same name."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, source in zip(folders, reversed(questions), strict=True):
        folder.mkdir()
        (folder / "data").symlink_to(source)
    return folders


def test_ranks_with_other_data_do_not_evaluate(weights, unlike_folders):
    words = ["evaluate", "--model", weights, "--data", "data", *SETTINGS, "evaluate.generate=false"]
    text = errors_of(start_in(unlike_folders, words))
    assert "rank 1 has another evaluation dataset (data.eval) than rank 0" in text


def test_ranks_with_other_data_do_not_evaluate_while_training(mesh_model, questions, unlike_folders, tmp_path):
    change = {"train.run": str(tmp_path / "run"), "train.max_steps": 1, "train.device": "cpu", "train.threads": 1,
              "model.path": str(mesh_model), "model.init": "random", "balance.text_cap": 192,
              "data.train": str(questions[0]), "data.eval": "data", **mesh(dp_shard=2)}  # fmt: skip
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: unlike\n")
    text = errors_of(start_in(unlike_folders, ["train", recipe, *words_of(change)]))
    assert "rank 1 has another evaluation dataset (data.eval) than rank 0" in text
    assert not (tmp_path / "run" / "eval.json").exists()


def test_ranks_with_other_options_do_not_evaluate(weights, questions, tmp_path):
    processes = []
    port = str(free_port())
    for rank in range(2):
        words = ["evaluate", "--model", weights, "--data", questions[1], *SETTINGS, f"evaluate.max_samples={2 + rank}"]
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                     "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        command = [find_program("gimbal"), *map(str, words)]
        processes.append(subprocess.Popen(command, env=environment(**variables), stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    assert "rank 1 has another set of options than rank 0" in errors_of(processes)


@pytest.fixture(scope="module")
def much(prepare) -> Path:
    """Seconds of evaluation, sample by sample."""
    return prepare({"colours": colour_talks(100, 250)})


STOPPED = {"train.max_steps": 12, "evaluate.every_steps": 3, "evaluate.text_cap": 1, "checkpoint.export_hf": False}


@pytest.mark.parametrize(
    "axes, ranks", [({}, 1), ({"dp_shard": 2}, 2), pytest.param({"dp_replicate": 2}, 2, marks=pytest.mark.slow)], ids=str
)
def test_a_signal_during_an_evaluation_saves_and_leaves(trainer, mesh_model, much, axes, ranks):
    change = {**STOPPED, **mesh(**axes), "model.path": str(mesh_model), "data.eval": str(much)}
    run_, job = trainer.start(change, ranks=ranks)
    job.wait_until(lambda: len(run_.lines("train")) >= 3)
    job.processes[-1].send_signal(signal.SIGTERM)  # the others learn it from this one
    ended = job.wait()
    assert [process.returncode for process in job.processes] == [143] * ranks, ended.stderr
    # The evaluation has not come to its end, nor training to its next step.
    assert run_.state()["step"] == 3 and len(run_.lines("train")) == 3
    assert "stopped by SIGTERM after step 3" in ended.stderr
    assert not run_.lines("eval")
    for name in ("eval.json", "predictions.jsonl", "summary.json"):
        assert not (run_.folder / name).exists(), name
    # It goes on from there.
    trainer.run({**change, "evaluate.max_samples": 5, "train.max_steps": 4}, run=run_, ranks=ranks)
    assert run_.column("step") == [1, 2, 3, 4] and [line["step"] for line in run_.lines("eval")] == [4]


def test_a_signal_during_the_last_evaluation(trainer, mesh_model, much):
    change = {**STOPPED, "model.path": str(mesh_model), "evaluate.every_steps": 0, "train.max_steps": 3, "data.eval": str(much)}
    run_, job = trainer.start(change)
    job.wait_until(lambda: len(run_.lines("train")) >= 3)
    job.signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 143, ended.stderr
    assert not (run_.folder / "summary.json").exists() and not run_.lines("eval")
    assert run_.state()["step"] == 3
