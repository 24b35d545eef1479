"""gimbal doctor: what it says about machines, processes and their connections, with 1, 2 and 4 processes."""

from __future__ import annotations

import functools
import json
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e_tool import SECONDS, environment, free_port
from gimbal.generate.programs import find_program


def doctor(*words: str, code: int = 0) -> dict[str, Any]:
    """What the command prints as JSON."""
    command = [find_program("gimbal"), "doctor", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment())
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def doctor_in_folders(folders: list[Path], *words: str) -> tuple[list[int], str]:
    """One rank in each folder; the exit codes and the text that rank 0 prints."""
    return doctor_on_ranks([(folder, list(words)) for folder in folders])


def doctor_on_ranks(ranks: list[tuple[Path, list[str]]]) -> tuple[list[int], str]:
    """One rank for each folder with its own words; the exit codes and the text that rank 0 prints."""
    port = str(free_port())
    processes = []
    for rank, (folder, words) in enumerate(ranks):
        variables = environment(
            RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(len(ranks)), LOCAL_WORLD_SIZE=str(len(ranks)),
            MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
        )
        processes.append(
            subprocess.Popen(
                [find_program("gimbal"), "doctor", *words], cwd=folder, env=variables, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )
    outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    return [process.returncode for process in processes], outputs[0]


def test_one_process() -> None:
    facts = doctor()
    assert facts["ok"] and facts["problems"] == []
    assert facts["processes"] == 1 and facts["links"] == []
    assert facts["gemm_peak_float32"] > 1e8 and facts["gemm_peak_bfloat16"] > 1e7
    assert [rank["place"] for rank in facts["ranks"]] == [""]


def test_a_mesh_of_four(data: Path, model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{path: {model}}}\ndata: {{train: {data}}}\n")
    facts = doctor(str(recipe), "--nproc", "4", "--mesh", "pp=2,dp_shard=2")
    assert facts["ok"] and facts["mesh"] == "pp 2, dp_shard 2" and facts["launcher"] == "torchrun"
    assert [rank["place"] for rank in facts["ranks"]] == [f"pp {p}, dp_shard {s}" for p in range(2) for s in range(2)]
    assert len(facts["warnings"]) == (len(os.sched_getaffinity(0)) < 4)
    links = {(link["axis"], tuple(link["ranks"])): link for link in facts["links"]}
    assert set(links) == {
        ("world", (0, 1, 2, 3)), ("dp_shard", (0, 1)), ("dp_shard", (2, 3)), ("pp", (0, 2)), ("pp", (1, 3)),
    }
    for link in links.values():
        assert link["transport"] == "shared memory"
        assert link["right"] and 0 < link["latency_seconds"] < 10 and link["bytes_per_second"] > 1e5


def test_ranks_that_see_other_files_are_named(data: Path, held_out: Path, tmp_path: Path) -> None:
    folders = [tmp_path / str(rank) for rank in range(2)]
    for folder, dataset in zip(folders, (data, held_out), strict=True):
        folder.mkdir()
        (folder / "recipe.yaml").write_text("data: {train: data}\noptimizer: {lr: 1.0e-3}\n")
        (folder / "data").symlink_to(dataset)
    codes, text = doctor_in_folders(folders, "recipe.yaml")
    assert codes == [1, 1], text
    assert "rank 1 (" in text and "another dataset than the other ranks" in text
    assert "another recipe" not in text and "another program" not in text
    assert "dp_replicate 1" in text and "iB/s" in text  # the links are tested all the same

    (folders[1] / "recipe.yaml").write_text("data: {train: data}\noptimizer: {lr: 2.0e-3}\n")
    codes, text = doctor_in_folders(folders, "recipe.yaml")
    assert codes == [1, 1] and "another recipe than the other ranks" in text


def test_what_a_rank_cannot_read_is_its_problem(data: Path, tmp_path: Path) -> None:
    folders = [tmp_path / str(rank) for rank in range(2)]
    for folder in folders:
        folder.mkdir()
        (folder / "recipe.yaml").write_text("data: {train: data}\n")
    (folders[0] / "data").symlink_to(data)
    codes, text = doctor_in_folders(folders, "recipe.yaml")
    assert codes == [1, 1], text
    assert "rank 1: data: no such dataset folder" in text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([["recipe.yaml"], []], "no recipe, which the other ranks have"),
        ([[], ["recipe.yaml"]], "a recipe, which the other ranks do not have"),
        ([["recipe.yaml"], ["recipe.yaml", "optimizer.lr=1.0e-3"]], "another recipe than the other ranks"),
        ([[], ["optimizer.lr=1.0e-3"]], "a recipe, which the other ranks do not have"),
    ],
)  # fmt: skip
def test_ranks_started_with_other_words_are_named(data: Path, tmp_path: Path, words: list[list[str]], problem: str) -> None:
    (tmp_path / "recipe.yaml").write_text(f"data: {{train: {data}}}\n")
    codes, text = doctor_on_ranks([(tmp_path, own) for own in words])
    assert codes == [1, 1], text
    found = [line.strip() for line in text.split("Problems:\n")[1].splitlines()]
    assert any(line.startswith("rank 1 (") and line.endswith(f"): {problem}") for line in found), text
    # A rank without a recipe lacks its dataset too; no rank has a plan.
    has_data = [own[:1] == ["recipe.yaml"] for own in words]
    assert any("dataset" in line for line in found) == (has_data[0] != has_data[1])
    assert not any("plan" in line for line in found)


def test_device_threads_and_timeout_are_the_recipes(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("train: {device: cpu, threads: 3, timeout_seconds: 2}\n")
    facts = doctor(str(recipe))
    assert facts["threads"] == 3 and facts["device"] == "cpu"
    assert doctor(str(recipe), "train.threads=2")["threads"] == 2
    # The second rank never comes.
    alone = environment(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port())
    )
    done = subprocess.run(
        [find_program("gimbal"), "doctor", str(recipe)], capture_output=True, text=True, timeout=SECONDS, env=alone
    )
    assert done.returncode != 0
    assert "not all 2 processes have started within 2 s" in done.stderr and "missing ranks: 1" in done.stderr


def test_a_model_that_the_mesh_cannot_divide_is_a_problem(model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{path: {model}}}\nstages: [{{name: first}}, {{name: second, parallel: {{tp: 3}}}}]\n")
    facts = doctor(str(recipe), "--nproc", "3", code=1)
    assert len(facts["problems"]) == 1
    for part in ("parallel.tp and parallel.sp", f"'{model}'", "tp 3 x sp 1 = 3 does not divide the text model's 2 attention heads"):
        assert part in facts["problems"][0]
    assert facts["mesh"] == "dp_replicate 3"  # the links of the first stage are tested all the same


def test_more_stages_than_blocks_are_a_problem(model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"model: {{path: {model}}}\n")
    many = ["parallel.schedule=interleaved", "parallel.stages_per_rank=9"]
    facts = doctor(str(recipe), *many, code=1)
    assert len(facts["problems"]) == 1 and "parallel: 9 stages are more than the model's 8 blocks" in facts["problems"][0]


def test_training_refuses_it_before_its_first_stage(trainer, model: Path, tmp_path: Path) -> None:
    recipe = {**json.loads(trainer.recipe.read_text()), "stages": [{"name": "first"}, {"name": "second", "parallel": {"tp": 3}}]}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    run, ended = trainer.end(recipe=path, ranks=3)
    assert ended.code != 0
    assert f"parallel.tp and parallel.sp do not fit the model in '{model}'" in ended.stderr
    assert "tp 3 x sp 1 = 3 does not divide the text model's 2 attention heads" in ended.stderr
    assert not (run.folder / "first").exists()


def test_a_mesh_that_does_not_fit_is_a_problem() -> None:
    facts = doctor("--nproc", "2", "--mesh", "tp=3", code=1)
    assert not facts["ok"]
    assert len(facts["problems"]) == 1
    assert "pp 1 x dp_shard 1 x sp 1 x tp 3 is 3, which does not divide the 2 processes of this run" in facts["problems"][0]


def doctor_text(*words: str, cores: set[int] | None = None, code: int = 0) -> str:
    """What the command prints for people, on these cores alone."""
    done = subprocess.run(
        [find_program("gimbal"), "doctor", *words], capture_output=True, text=True, timeout=SECONDS, env=environment(),
        preexec_fn=lambda: os.sched_setaffinity(0, cores) if cores else None,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_wrong_mesh_is_said_before_the_links() -> None:
    text = doctor_text("--nproc", "2", "--mesh", "tp=3", code=1)
    assert "mesh: dp_replicate 2 (the one asked for cannot be made: see Problems)" in text
    assert text.index("Problems:\n  ") < text.index("\nlink ") and "which does not divide the 2 processes" in text
    assert text.splitlines()[-1].startswith("1 problem") and "All is well" not in text


def test_more_processes_than_cores_are_a_warning() -> None:
    assert doctor_text().splitlines()[-1] == "All is well."
    text = doctor_text("--nproc", "2", cores={min(os.sched_getaffinity(0))})
    assert "Warnings:\n  2 processes on 1 core of " in text and "All is well" not in text
    assert text.index("Warnings:") < text.index("\nlink ")
    assert text.splitlines()[-1] == "No problems, but 1 warning; see above."


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that the test starts get no file above 4 MiB, and so no memory to share: two ranks' has more."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    monkeypatch.setattr(subprocess, "Popen", functools.partial(subprocess.Popen, preexec_fn=limit))


REFUSED = "TCP instead of shared memory carries messages of ranks 0, 1 ("
REFUSAL = "Reason: group world of ranks 0, 1: rank 0: ftruncate: File too large."


def test_refused_shared_memory_is_a_warning(small_files: None, tmp_path: Path) -> None:
    codes, text = doctor_on_ranks([(tmp_path, [])] * 2)
    assert codes == [0, 0], text
    assert "Warnings of the links:\n  " + REFUSED in text and REFUSAL in text and text.count(REFUSED) == 1
    assert "gloo" in text and "No problems, but" in text

    codes, text = doctor_on_ranks([(tmp_path, ["--json"])] * 2)
    facts = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
    assert codes == [0, 0] and facts["ok"] and {link["transport"] for link in facts["links"]} == {"gloo"}
    assert len([warning for warning in facts["warnings"] if warning.startswith(REFUSED) and REFUSAL in warning]) == 1


def test_training_warns_of_refused_shared_memory(trainer, small_files: None) -> None:
    _, ended = trainer.end({"train.max_steps": 2}, ranks=2)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count(REFUSED) == 1 and REFUSAL in ended.stderr


def test_mesh_replaces_all_axes_of_the_recipe(model: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    parallel = {"tp": 2, "pp": 2, "stage_starts": ["text.0"]}
    recipe.write_text(json.dumps({"model": {"path": str(model)}, "parallel": parallel, "train": {"plan": str(tmp_path / "gone.json")}}))
    facts = doctor(str(recipe), "--nproc", "2", "--mesh", "dp_shard=2")
    assert facts["ok"] and facts["mesh"] == "dp_shard 2"
    for word in ("parallel.tp=2", "train.plan=plan.json"):
        command = [find_program("gimbal"), "doctor", str(recipe), word, "--mesh", "dp_shard=2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and f"--mesh dp_shard=2 and {word}: --mesh stands for all axes" in done.stderr


def test_bad_axes_are_refused() -> None:
    for mesh in ("foo=2", "pp", "pp=", "ep=2"):
        done = subprocess.run([find_program("gimbal"), "doctor", "--mesh", mesh], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and f"--mesh {mesh}" in done.stderr and "is not AXIS=SIZE" in done.stderr
    done = subprocess.run([find_program("gimbal"), "doctor", "--mesh", "pp=0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "parallel.pp" in done.stderr
