"""`--nproc`: what ends with the launcher, what is not tried again, and what is said once."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from e2e_tool import SECONDS, Run, environment
from gimbal.generate.programs import find_program
from mesh_tool import launched_ranks, mesh

ENDLESS = {"train.max_steps": 100000, "train.timeout_seconds": 60}


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("moment", ["starting", "training"])
def test_ranks_do_not_outlive_a_killed_launcher(trainer, mesh_model, moment, tmp_path):
    # Its temporary folder stays: nobody is left to remove it.
    change = {"model.path": str(mesh_model), **mesh(dp_shard=2), **ENDLESS}
    run, job = trainer.start(change, nproc=2, environment={"TMPDIR": str(tmp_path)})
    launcher = job.processes[0].pid
    job.wait_until(lambda: len(launched_ranks(launcher)) == 2 and (moment == "starting" or len(run.lines("train")) >= 2))
    ranks = list(launched_ranks(launcher).values())
    os.kill(launcher, signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while any(map(lives, ranks)) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [pid for pid in ranks if lives(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, job.log.read_text()


@pytest.mark.parametrize(
    ("change", "variables", "message"),
    [
        ({"data.train": "absent"}, {}, "absent"),
        ({}, {"GLOO_SOCKET_IFNAME": "nosuch0"}, "the network interface 'nosuch0' cannot be used"),
        ({"train.device": "cuda"}, {"CUDA_VISIBLE_DEVICES": ""}, "no CUDA device is usable here"),
    ],
    ids=["at_work", "while_they_connect", "before_they_meet"],
)
def test_bad_input_is_said_once_and_not_tried_again(trainer, change, variables, message):
    # The front end does not look at any of these.
    change = {**mesh(dp_replicate=2), "train.timeout_seconds": 20, **change}
    _, job = trainer.start(change, nproc=2, restarts=3, environment=variables)
    ended = job.wait()
    assert ended.code == 2 and "Traceback" not in ended.stderr, ended.stderr
    errors = [line for line in ended.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1 and message in errors[0], ended.stderr
    assert "not started again" in ended.stderr and "restart 1 of the job" not in ended.stderr


def test_too_many_threads_are_said_once(trainer):
    cores = len(os.sched_getaffinity(0))
    change = {**mesh(dp_replicate=2), "train.max_steps": 1, "train.threads": cores}
    _, ended = trainer.end(change, nproc=2)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count(f"warning: 2 processes x {cores} thread") == 1, ended.stderr


def run_under(launcher: int, words: list[str]) -> subprocess.CompletedProcess[str]:
    variables = environment(GIMBAL_LAUNCHER=str(launcher))
    return subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, env=variables)


def test_a_rank_whose_launcher_has_ended_says_so():
    program = str(find_program("gimbal-run"))
    with subprocess.Popen(["true"]) as launcher:
        os.waitid(os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
        ends = [run_under(launcher.pid, [program, "doctor"])]  # a zombie
    ends.append(run_under(launcher.pid, [program, "doctor"]))
    for done in ends:
        assert done.returncode == 1
        assert done.stderr == f"error: the launcher (GIMBAL_LAUNCHER, process {launcher.pid}) has ended, and this process with it\n"


def test_a_script_may_stand_between_launcher_and_rank():
    # Not replaced by its last command, so that the launcher is not the parent.
    script = ["/bin/sh", "-c", '"$0" nothing; exit $?', str(find_program("gimbal-run"))]
    done = run_under(os.getpid(), script)
    assert done.returncode == 2 and "gimbal-run has no command 'nothing'" in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "-h"]], ids=" ".join)
def test_gimbal_run_says_how_it_is_used(words):
    done = subprocess.run(
        [find_program("gimbal-run"), *words], capture_output=True, text=True, timeout=SECONDS, env=environment()
    )
    assert done.returncode == 0 and done.stderr == ""
    for part in ("--no-python gimbal-run train recipe.yaml", "`gimbal train --help` lists the options"):
        assert part in done.stdout


def test_a_run_folder_in_use_is_said_once(trainer, tmp_path):
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, ended = trainer.end(mesh(dp_replicate=2), run=Run(tmp_path), nproc=2)
    errors = [line for line in ended.stderr.splitlines() if "error: " in line]
    assert ended.code == 2 and len(errors) == 1 and "is in use by another process" in errors[0], ended.stderr
    assert "collectives" not in ended.stderr
