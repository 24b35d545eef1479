"""A rank that is killed, stops answering or is told to leave ends the whole job, in time and with a message."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from e2e_tool import assert_same_bits
from mesh_tool import failed_ranks, hit, launched_ranks, mesh

TIMEOUT = 4
RANKS = 4
ENDLESS = {"train.max_steps": 100000, "train.timeout_seconds": TIMEOUT}
MESHES = {
    "pipeline": {"pp": 2, "dp_replicate": 2},
    "rows_and_columns": {"sp": 2, "tp": 2},
    "sharded": {"dp_shard": 4},
    "all_kinds": {"pp": 2, "dp_shard": 2},
}
# Which rank it hits is drawn anew every day; the log of a failed test names it.
SEED = int(os.environ.get("GIMBAL_FAILURE_SEED", time.time() // 86400))
QUICK = {("pipeline", "SIGKILL"), ("rows_and_columns", "SIGSTOP")}


@pytest.fixture()
def on_mesh(trainer, mesh_model):
    def start(axes, change, **options):
        return trainer.start({"model.path": str(mesh_model), **mesh(**axes), **change}, **options)

    return start


CASES = [
    pytest.param(kind, name, marks=[] if (kind, name) in QUICK else pytest.mark.slow)
    for kind in MESHES
    for name in ("SIGKILL", "SIGSTOP")
]


@pytest.mark.parametrize("kind, name", CASES)
def test_one_rank_takes_all_others_along(on_mesh, kind, name):
    victim = random.Random(f"{SEED} {kind} {name}").randrange(RANKS)
    axes = MESHES[kind]
    run, job = on_mesh(axes, ENDLESS, ranks=RANKS)
    job.wait_until(lambda: len(run.lines("train")) >= 3)
    hit(job, victim, getattr(signal, name), TIMEOUT + 5)
    named = failed_ranks(job.log.read_text(), axes, RANKS)
    assert named and victim not in named, f"rank {victim} was hit:\n{job.log.read_text()}"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_one_rank_of_a_launcher(on_mesh, name):
    axes = MESHES["pipeline"]
    run, job = on_mesh(axes, ENDLESS, nproc=RANKS)
    job.wait_until(lambda: len(run.lines("train")) >= 3)
    ranks = launched_ranks(job.processes[0].pid)
    assert sorted(ranks) == list(range(RANKS))
    victim = random.Random(f"{SEED} launcher {name}").randrange(RANKS)
    os.kill(ranks[victim], getattr(signal, name))
    ended = job.wait()
    assert "Traceback" not in ended.stderr, ended.stderr
    complaints = failed_ranks(ended.stderr, axes, RANKS)
    if name == "SIGSTOP":
        assert ended.code == 1 and complaints, ended.stderr
        # At once: torch would wait 30 seconds for it.
        assert f"error: rank {victim} was halted (SIGSTOP); it is ended now" in ended.stderr, ended.stderr
        assert "was ended by" not in ended.stderr, ended.stderr
        return
    # The cause comes first, then what follows from it.
    assert ended.code == 137, ended.stderr
    first = next(line for line in ended.stderr.splitlines() if "error: " in line)
    assert first.startswith(f"error: rank {victim} was ended by SIGKILL"), ended.stderr
    assert ended.stderr.count("was ended by") == 1 and victim not in complaints, ended.stderr


@pytest.fixture(scope="module")
def undisturbed(trainer, mesh_model):
    return trainer.run({"model.path": str(mesh_model), **mesh(**MESHES["pipeline"]), "train.max_steps": 40}, ranks=RANKS)


def check_as_undisturbed(run, undisturbed):
    for column in ("step", "epoch", "step_in_epoch", "loss", "grad_norm", "samples", "tokens"):
        assert run.column(column) == undisturbed.column(column), column
    for kind in ("parameters", "optimizer"):
        assert_same_bits(run.tensors(kind), undisturbed.tensors(kind))


def test_a_killed_rank_is_restarted(on_mesh, undisturbed):
    change = {"train.max_steps": 40, "checkpoint.every_steps": 5, "train.timeout_seconds": 20}
    run, job = on_mesh(MESHES["pipeline"], change, nproc=RANKS, restarts=2)
    job.wait_until(lambda: len(run.lines("train")) >= 8 and bool(run.checkpoints()))
    ranks = launched_ranks(job.processes[0].pid)
    os.kill(ranks[random.Random(f"{SEED} restart").randrange(RANKS)], signal.SIGKILL)
    ended = job.wait()
    assert ended.code == 0 and "Traceback" not in ended.stderr, ended.stderr
    assert "restart 1 of the job" in ended.stderr and "resuming from" in ended.stderr
    check_as_undisturbed(run, undisturbed)


def test_sigterm_to_one_rank_saves_and_leaves(on_mesh, undisturbed):
    change = {"train.max_steps": 40, "train.timeout_seconds": 20}
    run, job = on_mesh(MESHES["pipeline"], change, ranks=RANKS)
    job.wait_until(lambda: len(run.lines("train")) >= 4)
    job.processes[2].send_signal(signal.SIGTERM)
    ended = job.wait()
    assert [process.returncode for process in job.processes] == [143] * RANKS, ended.stderr
    assert 4 <= run.state()["step"] < 40
    _, job = on_mesh(MESHES["pipeline"], change, run=run, ranks=RANKS)
    assert job.wait().code == 0
    check_as_undisturbed(run, undisturbed)


@pytest.mark.parametrize("number, to", [(signal.SIGUSR1, "launcher"), (signal.SIGTERM, "rank")])
def test_a_notice_of_preemption_under_the_launcher(on_mesh, number, to):
    run, job = on_mesh({"dp_shard": 2}, {"train.max_steps": 100000}, nproc=2, restarts=3)
    job.wait_until(lambda: len(run.lines("train")) >= 4)
    launcher = job.processes[0].pid
    os.kill(launcher if to == "launcher" else launched_ranks(launcher)[1], number)
    ended = job.wait()
    # It is no failure: nothing is started again, and nobody is ended by a signal while it saves.
    assert ended.code == 128 + number, ended.stderr
    assert f"stopped by {number.name} after step" in ended.stderr
    assert run.state()["step"] >= 4
    assert not any(word in ended.stderr for word in ("restart", "Traceback", "error", "was ended by")), ended.stderr
