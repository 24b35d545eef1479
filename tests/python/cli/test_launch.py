"""`python -m gimbal.launch`: which failed jobs it starts again, and with which exit code. Shell scripts stand in for ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Each rank logs which start it is, and goes on when both have begun.
SCRIPT = """\
note() {{ echo "$1" > "$GIMBAL_LAUNCH_NOTES/$$.note"; }}
echo "$TORCHELASTIC_RESTART_COUNT" >> "log_$RANK"
while ! grep -qsx "$TORCHELASTIC_RESTART_COUNT" log_0 || ! grep -qsx "$TORCHELASTIC_RESTART_COUNT" log_1; do sleep 0.02; done
if [ "$RANK" = 0 ]; then {rank_0}; else {rank_1}; fi
"""


def launch(folder: Path, rank_0: str, rank_1: str, restarts: int = 1) -> tuple[int, int, str]:
    """Exit code, number of starts, stderr."""
    (folder / "rank.sh").write_text(SCRIPT.format(rank_0=rank_0, rank_1=rank_1), encoding="utf-8")
    hidden = ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT", "GIMBAL_LAUNCH_NOTES")
    words = [sys.executable, "-m", "gimbal.launch", "--nproc", "2", "--max-restarts", str(restarts), "--", "/bin/sh", "rank.sh"]
    clean = {name: value for name, value in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in result.stderr
    starts = [(folder / f"log_{rank}").read_text().split() for rank in (0, 1)]
    assert starts[0] == starts[1] == [str(i) for i in range(len(starts[0]))], starts
    return result.returncode, len(starts[0]), result.stderr


@pytest.mark.parametrize(
    ("rank_0", "rank_1", "code"),
    [
        # One that still saves when the other has left is waited for.
        ("sleep 1; note 'stopped 10'; touch saved; exit 0", "note 'stopped 10'; touch saved; exit 0", 138),
        ("exec sleep 60", "exit 143", 143),
        ("exec sleep 60", "kill -TERM $$", 143),
    ],
    ids=["noted", "by_exit_code", "before_it_listens"],
)
def test_a_rank_that_was_told_to_leave_ends_the_job(tmp_path: Path, rank_0: str, rank_1: str, code: int) -> None:
    assert launch(tmp_path, rank_0, rank_1)[:2] == (code, 1)
    assert (tmp_path / "saved").exists() == ("saved" in rank_0)


@pytest.mark.parametrize(
    ("rank_0", "rank_1"),
    [("exit 2", "exit 2"), ("exit 2", "exec sleep 60"), ("exit 1", "exit 2")],
    ids=["of_all", "of_one", "of_one_that_fails_the_other"],
)
def test_bad_input_is_not_tried_again(tmp_path: Path, rank_0: str, rank_1: str) -> None:
    code, starts, errors = launch(tmp_path, rank_0, rank_1, restarts=3)
    assert (code, starts, errors) == (2, 1, "warning: not started again: it would end in the same way\n")


def test_bad_input_without_restarts_is_only_bad_input(tmp_path: Path) -> None:
    assert launch(tmp_path, "exit 2", "exit 2", restarts=0) == (2, 1, "")


@pytest.mark.parametrize(
    ("rank_0", "rank_1"),
    [
        ("exit 1", "exit 1"),
        # Misled by the partner's end, which it outlives.
        ("trap '' TERM; touch ready; while ! [ -e dying ]; do sleep 0.02; done; sleep 0.5; exit 2",
         "while ! [ -e ready ]; do sleep 0.02; done; touch dying; kill -KILL $$"),
    ],
    ids=["connection", "crash"],
)  # fmt: skip
def test_a_failure_that_may_pass_is_tried_again(tmp_path: Path, rank_0: str, rank_1: str) -> None:
    code, starts, _ = launch(tmp_path, rank_0, rank_1)
    assert code == (137 if "KILL" in rank_1 else 1) and starts == 2


def test_the_rank_that_crashed_is_named_before_the_others_complain(tmp_path: Path) -> None:
    # The survivor speaks half a second later, as ranks do that look for who is missing.
    waits = "trap '' TERM; touch ready; while ! [ -e dying ]; do sleep 0.02; done; sleep 0.5"
    survivor = f"{waits}; echo 'rank 1 is missing' >&2; exit 1"
    victim = "while ! [ -e ready ]; do sleep 0.02; done; touch dying; kill -KILL $$"
    code, _, errors = launch(tmp_path, survivor, victim, restarts=0)
    assert code == 137
    assert errors == (
        "error: rank 1 was ended by SIGKILL (somebody's kill -9, or the system's where memory runs out)\nrank 1 is missing\n"
    )


@pytest.mark.slow  # torch waits for half a minute
def test_a_rank_that_does_not_leave_is_no_crash(tmp_path: Path) -> None:
    code, _, errors = launch(tmp_path, "trap '' TERM; while true; do sleep 0.1; done", "sleep 1; exit 1", restarts=0)
    assert (code, errors) == (1, "error: rank 0 did not leave with the others and was ended by SIGKILL\n")


class Started:
    """A launcher in a session of its own, as a terminal makes it, whose ranks are two Python programs."""

    def __init__(self, folder: Path, program: str) -> None:
        (folder / "rank.py").write_text(program, encoding="utf-8")
        (folder / "tmp").mkdir()
        self.folder = folder
        words = [sys.executable, "-m", "gimbal.launch", "--nproc", "2", "--max-restarts", "1", "--", sys.executable, "rank.py"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
        self.process = subprocess.Popen(
            words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def wait_for_ranks(self) -> list[int]:
        """Process ids, once both have written theirs."""
        deadline = time.monotonic() + 60
        while len(files := list(self.folder.glob("started_*"))) < 2 or not all(file.read_text() for file in files):
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.02)
        return [int(file.read_text()) for file in files]

    def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        errors = self.process.communicate(timeout=60)[1]
        assert os.listdir(self.folder / "tmp") == [], "left behind"
        return self.process.returncode, errors


SAVING = """
import os, signal, sys, time
numbers = []
def leave(number, frame):
    numbers.append(number)
    if len(numbers) > 1:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
signal.signal(signal.SIGINT, leave)
open('started_' + os.environ['RANK'], 'w').write(str(os.getpid()))
while not numbers:
    time.sleep(0.01)
for i in range({rounds}):
    assert os.path.isdir(os.environ["GIMBAL_LAUNCH_NOTES"])
    time.sleep(0.1)
open(os.environ["GIMBAL_LAUNCH_NOTES"] + "/" + os.environ["RANK"] + ".note", "w").write("stopped 2")
"""


def test_ranks_that_save_are_waited_for(tmp_path: Path) -> None:
    job = Started(tmp_path, SAVING.format(rounds=10))
    job.wait_for_ranks()
    os.killpg(job.process.pid, signal.SIGINT)
    assert job.end() == (130, "")


def test_a_second_ctrl_c_ends_the_ranks(tmp_path: Path) -> None:
    job = Started(tmp_path, SAVING.format(rounds=600))
    job.wait_for_ranks()
    begin = time.monotonic()
    for _ in range(2):
        os.killpg(job.process.pid, signal.SIGINT)
        time.sleep(0.5)
    assert job.end() == (130, "warning: stopped by SIGINT\n")
    assert time.monotonic() - begin < 20


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    for program, code in (("", 0), ("import sys; sys.exit(1)", 1)):
        folder = tmp_path / str(code)
        folder.mkdir()
        assert Started(folder, program).end() == (code, "")


def test_notes_of_one_start_do_not_count_for_the_next(tmp_path: Path) -> None:
    first = '[ "$TORCHELASTIC_RESTART_COUNT" = 0 ]'
    rank_0, rank_1 = f"{first} && note 'stopped 15' && exit 3; exit 0", f"{first} && exec sleep 60; exit 0"
    assert launch(tmp_path, rank_0, rank_1) == (0, 2, "")
