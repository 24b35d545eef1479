"""A full disk and a run folder that can't be written. The disk is a small tmpfs, which takes root to mount."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import pytest
from e2e_tool import Run, assert_same_bits

LONG = {"train.max_steps": 12, "checkpoint.every_steps": 4, "checkpoint.keep_last": 2}


def mounted(folder, *options):
    return subprocess.run(["mount", "-t", "tmpfs", *options, "none", str(folder)], capture_output=True).returncode == 0


@pytest.fixture()
def small_disk(tmp_path):
    if os.geteuid() != 0 or not mounted(tmp_path, "-o", "size=4m"):
        pytest.skip("mounting a small tmpfs takes root and the right to mount")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def used(folder):
    stat = os.statvfs(folder)
    return (stat.f_blocks - stat.f_bfree) * stat.f_frsize


@pytest.mark.parametrize(("ranks", "background"), [(1, True), (2, True), (2, False)])
def test_full_disk_while_saving(trainer, small_disk, ranks, background):
    run = Run(small_disk / "run")
    trainer.run({**LONG, "train.max_steps": 4}, run=run, ranks=ranks)
    (run.folder / "summary.json").unlink()
    # Room for half of another checkpoint.
    checkpoint = sum(path.stat().st_size for path in run.checkpoints()[0].iterdir())
    remount(small_disk, f"size={(used(small_disk) + checkpoint // 2) // 4096 * 4096}")
    options = {**LONG, "train.timeout_seconds": 20, "checkpoint.background": background}
    _, job = trainer.start(options, run=run, ranks=ranks)
    ended = job.wait()
    codes = [process.returncode for process in job.processes]
    assert codes[0] == 2 and min(codes) > 0, (codes, ended.stderr)  # below 0: ended by a signal, without a message
    saving = "step-00000008" in ended.stderr and "No space left" in ended.stderr
    # In the background the disk may be full for the next line of a log before the save says so.
    logging = any(f"{log}.jsonl'. Is the disk full?" in ended.stderr for log in ("metrics", "samples"))
    assert saving or (background and logging), ended.stderr
    assert [path.name for path in (run.folder / "checkpoints").iterdir()] == ["step-00000004"]
    remount(small_disk, "size=8m")
    trainer.run(LONG, run=run, ranks=ranks)
    expected = trainer.run({**LONG, "train.max_steps": 4}, ranks=ranks)
    trainer.run(LONG, run=expected, ranks=ranks)
    assert run.column("loss")[4:] == expected.column("loss")[4:]
    assert_same_bits(run.tensors(), expected.tensors())


def test_read_only_run_folder(trainer, small_disk):
    (small_disk / "run").mkdir()
    remount(small_disk, "ro")
    for place in ("run", "run/below"):
        message = trainer.refused(LONG, run=Run(small_disk / place))
        assert str(small_disk / "run") in message and ("Read-only" in message or "writable" in message)


def test_full_disk_while_writing_metrics_or_checkpoints(trainer, small_disk):
    run, job = trainer.start({**LONG, "train.max_steps": 100000}, run=Run(small_disk / "run"))
    job.wait_until(lambda: len(run.checkpoints()) >= 1)
    # Takes what is left: then metrics.jsonl or the next checkpoint has no room, whichever comes first.
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65536))
    ended = job.wait()
    assert ended.code == 2 and str(run.folder) in ended.stderr, ended.stderr
    assert run.checkpoints()


def test_a_step_without_its_line_of_samples_is_not_saved(trainer):
    """A file that is always full stands for the log."""
    run = trainer.run({**LONG, "train.max_steps": 4})
    samples, kept = run.folder / "samples.jsonl", run.folder / "kept.jsonl"
    samples.rename(kept)
    samples.symlink_to("/dev/full")
    message = trainer.refused(LONG, run=run)
    assert "samples.jsonl'. Is the disk full?" in message
    assert [path.name for path in run.checkpoints()] == ["step-00000004"]
    samples.unlink()
    # Here the last line is lost, which the next start says.
    samples.write_text("".join(kept.read_text().splitlines(keepends=True)[:-1]))
    _, job = trainer.start(LONG, run=run)
    ended = job.wait()
    assert ended.code == 0 and "samples.jsonl' ends with step 3, and the run goes on after step 4" in ended.stderr, ended.stderr
    assert [line["step"] for line in run.samples()] == [1, 2, 3, *range(5, 13)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_run_folder_without_permission(trainer, tmp_path):
    (tmp_path / "run").mkdir(mode=0o555)
    message = trainer.refused(LONG, run=Run(tmp_path / "run"))
    assert str(tmp_path / "run") in message and "ermission" in message
