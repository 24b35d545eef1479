"""Stopping a run by any means and going on gives what it would have given."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from e2e_tool import Run, assert_every_sample_once, assert_same_bits, children

STEPS = 120
LONG = {"train.max_steps": STEPS}
SAME = ("step", "epoch", "step_in_epoch", "loss", "lr", "grad_norm", "samples", "tokens", "loss_tokens", "images")


@pytest.fixture(scope="module")
def uninterrupted(trainer):
    return trainer.run(LONG)


@pytest.fixture(scope="module")
def uninterrupted_by_two(trainer):
    return trainer.run(LONG, ranks=2)


def stopped(trainer, number, change=LONG, after=5, **options):
    """A run that gets the signal after some steps."""
    run, job = trainer.start(change, **options)
    job.wait_until(lambda: len(run.lines("train")) >= after)
    job.signal(number)
    return run, job.wait()


def check_completed(run, reference):
    for key in SAME:
        assert run.column(key) == reference.column(key), key
    for kind in ("parameters", "optimizer"):
        assert_same_bits(run.tensors(kind), reference.tensors(kind))
    assert run.place() == reference.place()
    assert_every_sample_once(run, 60)
    assert run.samples() == reference.samples()
    assert run.json("summary.json")["steps"] == STEPS


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves(trainer, uninterrupted, number, code):
    run, ended = stopped(trainer, number)
    assert ended.code == code, ended.stderr
    step = run.state()["step"]
    assert 5 <= step < STEPS and run.column("step")[-1] == step
    assert f"stopped by {number.name} after step {step}" in ended.stderr
    assert not (run.folder / "summary.json").exists()
    trainer.run(LONG, run=run)
    check_completed(run, uninterrupted)


def test_a_signal_to_one_of_two_ranks_stops_both(trainer, uninterrupted_by_two):
    run, job = trainer.start(LONG, ranks=2)
    job.wait_until(lambda: len(run.lines("train")) >= 5)
    job.processes[1].send_signal(signal.SIGTERM)
    ended = job.wait()
    assert [process.returncode for process in job.processes] == [143, 143], ended.stderr
    trainer.run(LONG, run=run, ranks=2)
    check_completed(run, uninterrupted_by_two)
    # Each part of the run has said what its steps have sent.
    parts = run.lines("communication")
    assert len(parts) == 2 and sum(part["steps"] for part in parts) == STEPS


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_through_nproc(trainer, uninterrupted_by_two, number, code):
    run, job = trainer.start(LONG, nproc=2)
    job.wait_until(lambda: len(run.lines("train")) >= 5)
    # As a terminal does for Ctrl-C: to the whole process group.
    os.killpg(job.processes[0].pid, number)
    ended = job.wait()
    assert ended.code == code, ended.stderr
    assert 5 <= run.state()["step"] < STEPS
    assert "Traceback" not in ended.stderr
    trainer.run(LONG, run=run, ranks=2)
    check_completed(run, uninterrupted_by_two)


def test_a_second_ctrl_c_leaves_at_once(trainer):
    # One step is the whole epoch, sample by sample, so that the second signal comes before its end.
    # On a machine that stalls in between, the step may end before the second signal: then once more.
    codes = []
    while len(codes) < 5 and -signal.SIGINT not in codes:
        run, job = trainer.start({"train.max_steps": 50, "balance.packs_per_step": 1000, "balance.micro_batches": 0})
        job.wait_until(lambda: bool(run.lines("summary")))
        job.signal(signal.SIGINT)
        time.sleep(0.02)
        job.signal(signal.SIGINT)
        ended = job.wait()
        codes.append(job.processes[0].returncode)
        anew = f"to begin '{run.folder}' anew, which has no complete checkpoint yet"
        if codes[-1] == -signal.SIGINT and anew not in ended.stderr:
            # The step has ended between the signals and its checkpoint was complete before the second.
            assert f"to go on after step {run.state()['step']} of '{run.folder}'" in ended.stderr
    assert -signal.SIGINT in codes and set(codes) <= {-signal.SIGINT, 130}, codes


def test_kill_and_go_on(trainer, uninterrupted):
    saving = {**LONG, "checkpoint.every_steps": 7}
    run, ended = stopped(trainer, signal.SIGKILL, saving, after=25)
    assert ended.code == -signal.SIGKILL
    saved = run.state()["step"]
    assert saved % 7 == 0 and 0 < saved < STEPS
    lines = len(run.lines("train"))
    again, ended = trainer.end(saving, run=run)
    assert ended.code == 0 and "resuming from" in ended.stderr
    assert saved <= lines < STEPS
    check_completed(run, uninterrupted)


def test_go_on_with_another_number_of_ranks(trainer, uninterrupted):
    change = {**LONG, "checkpoint.every_steps": 10}
    run, ended = stopped(trainer, signal.SIGTERM, change, ranks=2)
    assert ended.code == 143, ended.stderr
    trainer.run(change, run=run)
    for key in ("step", "epoch", "step_in_epoch", "samples", "tokens"):
        assert run.column(key) == uninterrupted.column(key)
    assert run.packs() == uninterrupted.packs()
    # The part with two ranks sums in another order; see test_same_result.py. Over 120 steps rounding grows.
    np.testing.assert_allclose(run.losses, uninterrupted.losses, rtol=1e-4)


def test_a_signal_before_the_first_step(trainer, uninterrupted):
    run, job = trainer.start(LONG)
    job.wait_until(run.folder.exists)
    job.signal(signal.SIGTERM)
    ended = job.wait()
    assert ended.code == 143 and run.state()["step"] >= 1, ended.stderr
    trainer.run(LONG, run=run)
    check_completed(run, uninterrupted)


def test_the_clock_goes_on(trainer):
    run, _ = stopped(trainer, signal.SIGTERM, after=20)
    trainer.run(LONG, run=run)
    elapsed = run.column("elapsed_seconds")
    assert elapsed == sorted(elapsed) and len(elapsed) == STEPS
    assert run.json("summary.json")["train_seconds"] == elapsed[-1]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_many_moments(trainer, uninterrupted, uninterrupted_by_two, ranks):
    # Saving every second step, so that many kills fall into a save.
    change = {**LONG, "checkpoint.every_steps": 2}
    moments = random.Random(7)
    run, kills = Run(trainer.root / f"often_killed{ranks}"), 0
    for _ in range(40):
        done = len(run.lines("train"))
        _, job = trainer.start(change, run=run, ranks=ranks)
        while all(process.poll() is None for process in job.processes) and len(run.lines("train")) < done + moments.randint(3, 9):
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        job.signal(signal.SIGKILL)
        codes = {process.wait() for process in job.processes}
        job.close()
        if codes == {0}:
            break
        assert codes <= {0, -signal.SIGKILL}, job.log.read_text()
        kills += 1
    trainer.run(change, run=run, ranks=ranks)
    assert kills >= 5
    check_completed(run, uninterrupted if ranks == 1 else uninterrupted_by_two)


def test_a_rank_that_hangs_ends_the_job(trainer):
    run, job = trainer.start({"train.max_steps": 100000, "train.timeout_seconds": 3}, ranks=2)
    job.wait_until(lambda: len(run.lines("train")) >= 5)
    job.processes[1].send_signal(signal.SIGSTOP)
    assert job.processes[0].wait(30) > 0
    job.close()
    assert "failed on rank 0 of 2" in job.log.read_text() and "timeout 3 s" in job.log.read_text()


def test_a_lost_partner_is_an_error_and_no_signal(trainer):
    # Writing to a socket whose other end has gone raises SIGPIPE, which by default ends a program without a word.
    run, job = trainer.start({"train.max_steps": 100000}, ranks=2)
    job.wait_until(lambda: len(run.lines("train")) >= 1)
    status = Path(f"/proc/{job.processes[0].pid}/status").read_text()
    job.close()
    ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
    assert ignored >> (signal.SIGPIPE - 1) & 1


def test_kill_of_one_rank_ends_the_job(trainer):
    run, job = trainer.start({"train.max_steps": 100000, "train.timeout_seconds": 15}, ranks=2)
    job.wait_until(lambda: len(run.lines("train")) >= 5)
    job.processes[1].kill()
    start = time.monotonic()
    ended = job.wait(30)
    assert time.monotonic() - start < 20
    assert job.processes[0].returncode > 0, ended.stderr
    assert "failed on rank 0 of 2" in ended.stderr and "stopped or is stuck" in ended.stderr


def test_kill_of_one_rank_through_nproc(trainer):
    run, job = trainer.start({"train.max_steps": 100000, "train.timeout_seconds": 15}, nproc=2)
    job.wait_until(lambda: len(run.lines("train")) >= 5)
    victim = children(job.processes[0].pid)[-1]
    os.kill(victim, signal.SIGKILL)
    ended = job.wait(40)
    assert ended.code > 0, ended.stderr
    assert "failed on rank" in ended.stderr or "was ended by SIGKILL" in ended.stderr
    assert "SIGPIPE" not in ended.stderr


def test_skipped_steps_are_counted_over_restarts(trainer):
    run, ended = trainer.end({"optimizer.lr": 1e30, "optimizer.warmup_steps": 0, "train.max_bad_steps": 1, "checkpoint.every_steps": 1})
    assert ended.code == 2 and len(run.checkpoints()) == 2, ended.stderr  # the skipped step is saved on leaving
    trainer.run({"optimizer.lr": 1e30, "optimizer.warmup_steps": 0, "train.max_bad_steps": 99, "train.max_steps": 3}, run=run)
    trainer.run({"optimizer.lr": 1e30, "optimizer.warmup_steps": 0, "train.max_bad_steps": 99, "train.max_steps": 5}, run=run)
    state, summary = run.state(), run.json("summary.json")
    assert summary["skipped_steps"] == state["step"] - state["optimizer_steps"] == len(run.lines("skipped")) == 4


def test_a_finished_run_is_left_as_it_is(trainer):
    run = trainer.run({"train.max_steps": 3})
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    _, ended = trainer.end({"train.max_steps": 3}, run=run)
    assert ended.code == 0 and "complete already" in ended.stderr
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_finished_run_can_be_made_longer(trainer):
    constant = {"optimizer.schedule": "constant"}
    run = trainer.run({"train.max_steps": 4, "checkpoint.export_hf": True, **constant})
    _, ended = trainer.end({"train.max_steps": 9, "checkpoint.export_hf": True, **constant}, run=run)
    assert ended.code == 0, ended.stderr
    assert f"'{run.folder}/hf': the export of step 9 has replaced the one of step 4" in ended.stderr
    check = trainer.run({"train.max_steps": 9, **constant})
    assert run.column("loss") == check.column("loss")
    assert_same_bits(run.tensors(), check.tensors())
    assert run.json("summary.json")["steps"] == 9


def test_an_export_leaves_alone_what_a_user_has_put_into_its_folder(trainer, held_out):
    constant = {"optimizer.schedule": "constant", "checkpoint.export_hf": True}
    run = trainer.run({"train.max_steps": 2, **constant})
    (run.folder / "hf" / "notes.md").write_text("what I think of it")
    before = {path: path.read_bytes() for path in (run.folder / "hf").iterdir()}
    evaluated = {"data.eval": str(held_out), "evaluate.generate": False}
    _, ended = trainer.end({"train.max_steps": 3, **constant, **evaluated}, run=run)
    assert ended.code == 0, ended.stderr
    beside = run.folder / "hf.step-3"
    assert f"warning: '{run.folder}/hf': the export of step 2 has not written 'notes.md', which would be lost" in ended.stderr
    assert f"it is left alone, and the export of step 3 is in '{beside}'" in ended.stderr
    assert {path: path.read_bytes() for path in (run.folder / "hf").iterdir()} == before
    assert run.json("hf.step-3/gimbal_export.json")["step"] == 3 and (beside / "model.safetensors").exists()
    assert run.json("eval.json")["model"] == str(beside)


@pytest.fixture()
def two_checkpoints(trainer):
    return trainer.run({"train.max_steps": 8, "checkpoint.every_steps": 4})


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
@pytest.mark.parametrize("file", ["rank-00000.safetensors", "index.json", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(trainer, two_checkpoints, file, damage):
    run: Run = two_checkpoints
    path = run.checkpoints()[-1] / file
    content = bytearray(path.read_bytes())
    expected = run.tensors()
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    if damage == "remove":
        path.unlink()
    (run.folder / "summary.json").unlink()
    _, ended = trainer.end({"train.max_steps": 8, "checkpoint.every_steps": 4}, run=run)
    assert ended.code == 0, ended.stderr
    assert "warning" in ended.stderr and f"step-00000008/{file}" in ended.stderr
    assert "resuming from" in ended.stderr and "step-00000004" in ended.stderr
    # The damaged one is not lost, however it came to that.
    assert "step-00000008.unused" in ended.stderr and (run.folder / "checkpoints" / "step-00000008.unused").is_dir()
    assert_same_bits(run.tensors(step=8), expected)
    assert run.column("step") == list(range(1, 9))


def test_a_stopped_run_that_may_not_resume_says_what_does(trainer):
    run, ended = stopped(trainer, signal.SIGTERM, {**LONG, "train.resume": False}, after=1)
    assert ended.code == 143, ended.stderr
    assert "; run the same command again with train.resume=true to go on" in ended.stderr
    assert "train.resume=true" in trainer.refused({**LONG, "train.resume": False}, run=run)
    trainer.run({"train.max_steps": run.state()["step"] + 1, "train.resume": True}, run=run)


def test_resume_false_refuses_a_used_folder(trainer, two_checkpoints):
    message = trainer.refused({"train.max_steps": 12, "train.resume": False}, run=two_checkpoints)
    assert str(two_checkpoints.folder) in message and "train.resume=true" in message


def test_resume_refuses_other_data(trainer, two_checkpoints, held_out):
    message = trainer.refused({"train.max_steps": 12, "data.train": str(held_out)}, run=two_checkpoints)
    assert str(two_checkpoints.folder) in message and str(held_out) in message and "other data" in message


@pytest.mark.parametrize(
    "change",
    [{"balance.text_cap": 300}, {"balance.packs_per_step": 2}, {"train.seed": 5}, {"balance.vision_cap": 9},
     {"balance.method": "random", "balance.samples_per_pack": 4}, {"data.weights": {"colours": 2.0}},
     {"balance.packs_per_slot": 2}, {"balance.oversize": "reject"}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_resume_refuses_another_order(trainer, two_checkpoints, change):
    message = trainer.refused({"train.max_steps": 12, **change}, run=two_checkpoints)
    assert str(two_checkpoints.folder) in message and "another order" in message


def test_resume_refuses_other_frozen_parameters_and_dtype(trainer, two_checkpoints):
    message = trainer.refused({"train.max_steps": 12, "model.freeze": ["vision.*"]}, run=two_checkpoints)
    assert "step-00000008: has 'vision." in message and "_moment'" in message and "frozen" in message
    message = trainer.refused({"train.max_steps": 12, "model.dtype": "float64"}, run=two_checkpoints)
    assert "step-00000008: '" in message and "is F32, this run keeps F64" in message and "model.dtype" in message
