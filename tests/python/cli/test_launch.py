"""`python -m gimbal.launch`: which failed jobs it starts again, and with which exit code. Shell scripts stand in for ranks."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_a_refused_input_is_not_tried_again(tmp_path: Path) -> None:
    refused = "note refused; exit 2"
    code, starts, errors = launch(tmp_path, refused, "exec sleep 60", restarts=3)
    assert (code, starts, errors) == (2, 1, "warning: not started again: it would end in the same way\n")


def test_a_refused_input_without_restarts_is_only_bad_input(tmp_path: Path) -> None:
    assert launch(tmp_path, "note refused; exit 2", "exit 2", restarts=0) == (2, 1, "")


@pytest.mark.parametrize(
    ("rank_0", "rank_1"),
    [
        ("exit 2", "exit 2"),  # the connection between them, which has exit code 2, too
        # Misled by the partner's end, which it outlives.
        ("trap '' TERM; note refused; touch noted; while ! [ -e dying ]; do sleep 0.02; done; sleep 0.5; exit 2",
         "while ! [ -e noted ]; do sleep 0.02; done; touch dying; kill -KILL $$"),
    ],
    ids=["connection", "crash"],
)  # fmt: skip
def test_a_failure_that_may_pass_is_tried_again(tmp_path: Path, rank_0: str, rank_1: str) -> None:
    code, starts, _ = launch(tmp_path, rank_0, rank_1)
    assert code == (137 if "KILL" in rank_1 else 2) and starts == 2


def test_notes_of_one_start_do_not_count_for_the_next(tmp_path: Path) -> None:
    first = '[ "$TORCHELASTIC_RESTART_COUNT" = 0 ]'
    rank_0, rank_1 = f"{first} && note 'stopped 15' && exit 3; exit 0", f"{first} && exec sleep 60; exit 0"
    assert launch(tmp_path, rank_0, rank_1) == (0, 2, "")
