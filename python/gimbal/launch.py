"""`python -m gimbal.launch --nproc N [--max-restarts K] -- PROGRAM ...`: torchrun on this machine, without its tracebacks.

The exit code is that of the process that failed first, so that bad input stays 2 and a failure 1. With `--max-restarts`
all processes of a job that has failed are started again, up to K times, unless one has refused its input (2).

Signals are passed on to the processes, which decide when to leave: torchrun would end those that still save. A process
that has saved leaves with exit code 0 and a line `stopped NUMBER` in a file NAME.note in the folder $GIMBAL_LAUNCH_NOTES;
the job then ends with 128 + NUMBER. $GIMBAL_LAUNCHER is this process, without which the others should not live on.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

# What is passed on: torch's own and the one with which cluster schedulers announce the end of a job.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)
# What asks a rank to leave; with 128 + these, or by them, leaves a program that writes no notes.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Every start is a torchrun of its own, which counts from 0; this stands before the program, and says which process is
# which rank. exec: no process more.
_WRAPPED = ["/bin/sh", "-c", 'export TORCHELASTIC_RESTART_COUNT="$0"; : > "$GIMBAL_LAUNCH_NOTES/rank.$RANK.$$"; exec "$@"']
# Processes that end within so many seconds of the first do so by themselves: torch waits 30 before it kills.
_TOGETHER = 5


@dataclass
class _Ended:
    code: int
    again: bool = False  # a failure that another start may not have


class Launcher:
    """One job. Handles the signals of this process."""

    def __init__(self) -> None:
        self._notes: Path | None = None  # of this start
        self._has_ranks = False  # from here on children are ranks
        self._stopped_by = 0  # the first signal
        self._told: set[int] = set()  # ranks whose end has been printed
        self._first_end = 0.0  # when the first rank failed

    def take_signals(self) -> None:
        """From now on signals end the job in order. Those that `gimbal` has held back come now."""
        for number in _SIGNALS:
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, self._on_child)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def launch(self, num_processes: int, command: list[str], max_restarts: int = 0) -> int:
        """Runs the command in that many processes and returns the exit code."""
        os.environ["GIMBAL_LAUNCHER"] = str(os.getpid())
        # The failing process has said what is wrong; torch would add the agent's own state.
        logging.disable(logging.ERROR)
        ended = _Ended(0)
        for attempt in range(max_restarts + 1):
            ended = self._run_once(num_processes, [*_WRAPPED, str(attempt), *command])
            if not ended.again:
                if ended.code == 2 and attempt < max_restarts:
                    _say("warning: not started again: it would end in the same way")
                break
        return ended.code

    def _run_once(self, num_processes: int, command: list[str]) -> _Ended:
        from torch.distributed import run
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

        self._told.clear()
        self._first_end = 0.0
        with tempfile.TemporaryDirectory(prefix="gimbal_launch_") as notes:
            self._notes = Path(notes)
            os.environ["GIMBAL_LAUNCH_NOTES"] = notes
            # A standalone rendezvous listens on a free port, so that several runs share a machine; the loopback address
            # needs no DNS. torch leaves the signals alone when it knows none of the names.
            options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(num_processes), "--no-python"]
            options += ["--max-restarts", "0", "--signals-to-handle", "none", "--log-dir", str(self._notes / "torch")]
            self._has_ranks = True
            try:
                # torch takes $ for names of its own to put in, and $$ for $.
                run.run(run.parse_args([*options, "--", *(word.replace("$", "$$") for word in command)]))
            except ChildFailedError as error:
                return self._after_failure(error)
            finally:
                self._has_ranks = False
            stopped = self._stop_notes()
            return _Ended(128 + stopped[0] if stopped else 0)

    def _stop_notes(self) -> list[int]:
        assert self._notes is not None
        texts = [path.read_text(encoding="utf-8") for path in sorted(self._notes.glob("*.note"))]
        return [int(words[1]) for words in map(str.split, texts) if words[0] == "stopped"]

    def _after_failure(self, error: ChildFailedError) -> _Ended:
        if self._stopped_by:
            if not self._stop_notes():
                _say(f"warning: stopped by {_name(self._stopped_by)}")
            return _Ended(128 + self._stopped_by)
        # Those that torchrun has ended come after those that made it do so.
        rank, first = error.get_first_failure()
        together = [f.exitcode for f in error.failures.values() if f.timestamp <= first.timestamp + _TOGETHER]
        # What a process says while another crashes may be a consequence.
        has_crashed = any(code < 0 and code != -signal.SIGTERM for code in together)
        if 2 in together and not has_crashed:
            return _Ended(2)
        if first.exitcode < 0 and rank not in self._told:
            _say(_crash(rank, -first.exitcode))
        code = first.exitcode if first.exitcode >= 0 else 128 - first.exitcode
        return _Ended(code, again=code - 128 not in _STOP)

    def _on_stop(self, number: int, _frame: Any) -> None:
        children = _children() if self._has_ranks else []
        if not children:
            _say(f"warning: stopped by {_name(number)}")
            # No exception: import and torch catch many.
            if self._notes is not None:
                shutil.rmtree(self._notes, ignore_errors=True)
            os._exit(128 + number)
        self._stopped_by = self._stopped_by or number
        for pid in children:
            os.kill(pid, number)  # it is still this one: nobody else waits for it while this runs

    def _on_child(self, _number: int, _frame: Any) -> None:
        """Says which rank has crashed before the others say what they miss."""
        for path in self._notes.glob("rank.*.*") if self._notes is not None else ():
            rank, pid = map(int, path.name.split(".")[1:])
            if rank in self._told:
                continue
            try:
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                continue  # torch has seen its end; it is said in the end
            if ended is None or (ended.si_code == os.CLD_EXITED and ended.si_status == 0):
                continue
            now = time.monotonic()
            self._first_end = self._first_end or now
            # By SIGTERM torch ends those that have not failed.
            if ended.si_code == os.CLD_EXITED or self._stopped_by or ended.si_status == signal.SIGTERM:
                continue
            self._told.add(rank)
            if now > self._first_end + _TOGETHER:
                _say(f"error: rank {rank} did not leave with the others and was ended by {_name(ended.si_status)}")
            else:
                _say(_crash(rank, ended.si_status))


def _crash(rank: int, number: int) -> str:
    hint = " (somebody's kill -9, or the system's where memory runs out)" if number == signal.SIGKILL else ""
    return f"error: rank {rank} was ended by {_name(number)}{hint}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _say(line: str) -> None:
    # In one piece, and from a handler too: sys.stderr does not take a line within a line.
    os.write(2, f"{line}\n".encode())


def _children() -> list[int]:
    pid = os.getpid()
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def main() -> int:
    launcher = Launcher()
    launcher.take_signals()
    parser = argparse.ArgumentParser(prog="python -m gimbal.launch")
    parser.add_argument("--nproc", type=int, required=True)
    parser.add_argument("--max-restarts", type=int, default=0)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    return launcher.launch(arguments.nproc, arguments.command, arguments.max_restarts)


if __name__ == "__main__":
    sys.exit(main())
