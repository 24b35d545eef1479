"""`python -m gimbal.launch`: which failed jobs it starts again, and with which exit code. Shell scripts stand in for ranks."""

from __future__ import annotations

import contextlib
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
N=$TORCHELASTIC_RESTART_COUNT
echo "$N" >> "log_$RANK"
while ! grep -qsx "$N" log_0 || ! grep -qsx "$N" log_1; do sleep 0.02; done
if [ "$RANK" = 0 ]; then {rank_0}; else {rank_1}; fi
"""
# What a rank does; $N is the start. A process that has ended is a zombie until torch has taken its exit code.
WAIT_FOR = "while ! [ -e {}$N ]; do sleep 0.02; done".format
UNTIL_REAPED = "while [ -e /proc/$(cat victim$N) ]; do sleep 0.02; done"
UNTIL_DEAD = "while grep -qs 'State:.[^Z]' /proc/$(cat victim$N)/status; do sleep 0.02; done"
# Outlives what torch sends when the other has ended.
STAYS = "trap '' TERM; touch ready$N"
SURVIVES = f"{STAYS}; {WAIT_FOR('dying')}"
DIES = f"{WAIT_FOR('ready')}; echo $$ > victim$N; touch dying$N; kill -KILL $$"
KILLED = "error: rank 1 was ended by SIGKILL (somebody's kill -9, or the system's where memory runs out)\n"


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
    [
        ("exit 2", "exit 2"),
        ("exit 2", "exec sleep 60"),
        (f"{WAIT_FOR('ready')}; touch failed$N; exit 1", f"{STAYS}; {WAIT_FOR('failed')}; exit 2"),
    ],
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
        (f"{SURVIVES}; {UNTIL_REAPED}; exit 2", DIES),
    ],
    ids=["connection", "crash"],
)  # fmt: skip
def test_a_failure_that_may_pass_is_tried_again(tmp_path: Path, rank_0: str, rank_1: str) -> None:
    code, starts, _ = launch(tmp_path, rank_0, rank_1)
    assert code == (137 if "KILL" in rank_1 else 1) and starts == 2


def test_the_rank_that_crashed_is_named_before_the_others_complain(tmp_path: Path) -> None:
    # The launcher looks at a rank before torch takes its exit code.
    survivor = f"{SURVIVES}; {UNTIL_REAPED}; echo 'rank 1 is missing' >&2; exit 1"
    code, _, errors = launch(tmp_path, survivor, DIES, restarts=0)
    assert (code, errors) == (137, f"{KILLED}rank 1 is missing\n")


def test_the_rank_that_ended_first_counts(tmp_path: Path) -> None:
    # Within one round of torch, which knows whole seconds.
    code, _, errors = launch(tmp_path, f"{SURVIVES}; {UNTIL_DEAD}; exit 3", DIES, restarts=0)
    assert (code, errors) == (137, KILLED)


@pytest.mark.slow  # torch waits for half a minute
def test_a_rank_that_does_not_leave_is_no_crash(tmp_path: Path) -> None:
    code, _, errors = launch(tmp_path, f"{STAYS}; while true; do sleep 0.1; done", f"{WAIT_FOR('ready')}; exit 1", restarts=0)
    assert (code, errors) == (1, "error: rank 0 did not leave with the others and was ended by SIGKILL\n")


class Started:
    """A launcher in a session of its own, as a terminal makes it, whose ranks are two Python programs."""

    def __init__(self, folder: Path, program: str, launcher: tuple[str, ...] = ("-m", "gimbal.launch"), ignored: str = "") -> None:
        (folder / "rank.py").write_text(program, encoding="utf-8")
        (folder / "tmp").mkdir()
        self.folder = folder
        words = [sys.executable, *launcher, "--nproc", "2", "--max-restarts", "1", "--", sys.executable, "rank.py"]
        if ignored:
            words = ["/bin/sh", "-c", f"trap '' {ignored}; exec \"$@\"", "sh", *words]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder / "tmp")}
        self.process = subprocess.Popen(
            words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def wait_for_ranks(self, kind: str = "started") -> None:
        """Until both have written their file of that kind."""
        deadline = time.monotonic() + 60
        while len(list(self.folder.glob(f"{kind}_*"))) < 2:
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Exit code and stderr."""
        try:
            errors = self.process.communicate(timeout=60)[1]
        finally:
            for file in self.folder.glob("started_*") if self.process.poll() is None else ():
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.kill(int(file.read_text()), signal.SIGKILL)
            self.process.kill()
        assert os.listdir(self.folder / "tmp") == [], "left behind"
        return self.process.returncode, errors


SAVING = """
import os, signal, sys, time
numbers = []
def leave(number, frame):
    numbers.append(number)
    open("hit" + str(len(numbers)) + "_" + os.environ["RANK"], "w").close()
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


# As on a kernel that does not list a process's children.
UNLISTED = ("-c", "import sys; from gimbal import launch; launch._CHILDREN = '/proc/absent'; sys.exit(launch.main())")


@pytest.mark.parametrize("launcher", [("-m", "gimbal.launch"), UNLISTED], ids=["listed", "unlisted"])
def test_ranks_that_save_are_waited_for(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    job = Started(tmp_path, SAVING.format(rounds=10), launcher)
    job.wait_for_ranks()
    os.killpg(job.process.pid, signal.SIGINT)
    assert job.end() == (130, "")


def test_a_second_ctrl_c_ends_the_ranks(tmp_path: Path) -> None:
    job = Started(tmp_path, SAVING.format(rounds=6000))
    job.wait_for_ranks()
    os.killpg(job.process.pid, signal.SIGINT)
    job.wait_for_ranks("hit1")
    os.killpg(job.process.pid, signal.SIGINT)
    assert job.end() == (130, "warning: stopped by SIGINT\n")


def test_signals_that_a_background_job_ignores_stay_ignored(tmp_path: Path) -> None:
    # Under nohup, and with & in a script.
    program = "import os, time\nopen('started_' + os.environ['RANK'], 'w').write(str(os.getpid()))\n"
    program += "while not os.path.exists('enough'):\n    time.sleep(0.02)\n"
    job = Started(tmp_path, program, ignored="HUP INT QUIT")
    job.wait_for_ranks()
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        os.killpg(job.process.pid, number)
        for file in tmp_path.glob("started_*"):
            while not file.read_text():
                time.sleep(0.02)
            os.kill(int(file.read_text()), number)
    (tmp_path / "enough").touch()
    assert job.end() == (0, "")


# What a rank does when it is told to leave; it tells the other, and then the launcher is told.
@pytest.mark.parametrize(
    ("rank_0", "rank_1", "code", "message"),
    [
        ("sys.exit(2)", "leave()", 2, "warning: not started again: it would end in the same way\n"),
        ("sys.exit(1)", "sys.exit(1)", 1, ""),
        ("leave()", "sys.exit(1)", 143, "warning: stopped by SIGTERM\n"),
        ("leave()", "end(signal.SIGKILL)", 137, KILLED),
        ("note()", "end(signal.SIGKILL)", 137, KILLED),
    ],
    ids=["full_disk", "failed", "partner_of_one_that_left", "killed", "killed_beside_one_that_saved"],
)
def test_a_save_that_fails_after_a_signal_is_a_failure(tmp_path: Path, rank_0: str, rank_1: str, code: int, message: str) -> None:
    program = f"""
import os, signal, sys, time
rank = os.environ["RANK"]
def end(number):
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
def leave():
    end(signal.SIGTERM)
def note():
    open(os.environ["GIMBAL_LAUNCH_NOTES"] + "/" + rank + ".note", "w").write("stopped 15")
    os._exit(0)
def on_term(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torch's, when the other has ended
    open("told_" + rank, "w").close()
    while not (os.path.exists("told_0") and os.path.exists("told_1")):
        time.sleep(0.02)
    if rank == "0":
        {rank_0}
    else:
        {rank_1}
signal.signal(signal.SIGTERM, on_term)
open("started_" + rank, "w").write(str(os.getpid()))
while True:
    time.sleep(0.02)
"""
    job = Started(tmp_path, program)
    job.wait_for_ranks()
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == (code, message)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    for program, code in (("", 0), ("import sys; sys.exit(1)", 1)):
        folder = tmp_path / str(code)
        folder.mkdir()
        assert Started(folder, program).end() == (code, "")


def test_a_failure_of_a_rank_that_was_told_to_leave_is_not_tried_again(tmp_path: Path) -> None:
    # The launcher itself has been told nothing.
    code, starts, errors = launch(tmp_path, "note 'stopped 15'; exit 3", "exec sleep 60")
    assert (code, starts, errors) == (3, 1, "")
