"""`python -m gimbal.launch --nproc N [--max-restarts K] -- PROGRAM ...`: torchrun on this machine, without its tracebacks.

The exit code is 2 when a process has refused its input, else that of the process that failed first. With
`--max-restarts` all processes of a job that has failed are started again, up to K times, unless one has refused its
input or the job was told to stop.

Signals are passed on to the processes, which decide when to leave: torchrun would end those that still save. A process
that has saved leaves with exit code 0 and a line `stopped NUMBER` in a file NAME.note in the folder $GIMBAL_LAUNCH_NOTES;
the job then ends with 128 + NUMBER, unless one of the others has failed. Signals that this process was started to ignore
(nohup, background jobs) stay ignored. $GIMBAL_LAUNCHER is this process, without which the others should not live on.
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
from collections.abc import Iterator
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
# The same for a job that was told to stop, where some may save long after others have left.
_WHILE_SAVING = 25
_CHILDREN = "/proc/{pid}/task/{pid}/children"


@dataclass
class _Ended:
    code: int
    again: bool = False  # a failure that another start may not have


@dataclass
class _Failure:
    """Of one rank. `code` is below 0 for a signal."""

    seconds: float  # time.monotonic() of its end
    rank: int
    code: int

    def exit_code(self) -> int:
        return self.code if self.code >= 0 else 128 - self.code


class Launcher:
    """One job. Handles the signals of this process."""

    def __init__(self) -> None:
        self._notes: Path | None = None  # of this start
        self._has_ranks = False  # from here on children are ranks
        self._passed_on: list[int] = []  # signals
        self._told: set[int] = set()  # ranks whose end has been printed
        self._halted: set[int] = set()  # ranks that were ended because they stood still
        self._ends: dict[int, float] = {}  # when which rank has ended
        self._first_end = 0.0  # when the first rank failed

    def take_signals(self) -> None:
        """From now on signals end the job in order. Those that `gimbal` has held back come now."""
        for number in _SIGNALS:
            # What nohup or a shell has this job ignore, the ranks inherit as ignored.
            if signal.getsignal(number) != signal.SIG_IGN:
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
        self._halted.clear()
        self._ends.clear()
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
        lines = [path.read_text(encoding="utf-8").split() for path in sorted(self._notes.glob("*.note"))]
        return [int(words[1]) for words in lines if len(words) == 2 and words[0] == "stopped"]

    def _after_failure(self, error: ChildFailedError) -> _Ended:
        failures = self._in_order(error)
        first = failures[0]
        # A rank may have been told, not this process.
        stops = self._passed_on or self._stop_notes()
        asked = {*self._passed_on, *stops, signal.SIGTERM}  # SIGTERM: so torch ends those that have not failed
        patience = _WHILE_SAVING if stops else _TOGETHER
        # What a process says while another crashes may be a consequence.
        crashes = [
            f for f in failures
            if f.code < 0 and -f.code not in asked and f.seconds <= first.seconds + patience and f.rank not in self._halted
        ]  # fmt: skip
        refused = any(f.code == 2 and (stops or f.seconds <= first.seconds + patience) for f in failures)
        if refused and not crashes:
            return _Ended(2)
        if stops:
            left = {code for number in asked for code in (-number, 128 + number)}
            others = [f for f in failures if f.code not in left]
            # 1: a rank that has lost one that has left.
            if len(others) < len(failures) and all(f.code == 1 for f in others):
                if not self._stop_notes():
                    _say(f"warning: stopped by {_name(stops[0])}")
                return _Ended(128 + stops[0])
            # It has not saved, or not all of it, and is not wanted any more.
            return _Ended(self._tell(crashes[0] if crashes else others[0]))
        code = self._tell(crashes[0] if refused else first)
        return _Ended(code, again=code - 128 not in _STOP)

    def _in_order(self, error: ChildFailedError) -> list[_Failure]:
        """The ranks that failed, the first one first; of those whose ends were seen at once, first what has crashed."""
        # torch knows whole seconds, and when it looked: for ranks whose end has not been seen here.
        past = time.monotonic() - time.time() + 1
        failures = [_Failure(self._ends.get(rank, f.timestamp + past), rank, f.exitcode) for rank, f in error.failures.items()]
        return sorted(failures, key=lambda f: (f.seconds, f.code >= 0 or f.code == -signal.SIGTERM, f.rank))

    def _tell(self, failure: _Failure) -> int:
        """The exit code. Says by which signal, unless that has been said."""
        if failure.code < 0 and failure.rank not in self._told:
            _say(_crash(failure.rank, -failure.code))
        return failure.exit_code()

    def _on_stop(self, number: int, _frame: Any) -> None:
        children = self._children() if self._has_ranks else []
        if not children:
            _say(f"warning: stopped by {_name(number)}")
            # No exception: import and torch catch many.
            if self._notes is not None:
                shutil.rmtree(self._notes, ignore_errors=True)
            os._exit(128 + number)
        self._passed_on.append(number)
        for pid in children:
            os.kill(pid, number)  # it is still this one: nobody else waits for it while this runs

    def _on_child(self, _number: int, _frame: Any) -> None:
        """Notes when a rank has ended, and says which has crashed before the others say what they miss."""
        now = time.monotonic()
        for rank, pid in self._ranks():
            if rank in self._ends:
                continue
            try:
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                self._ends[rank] = now  # torch has seen its end; it is said in the end
                continue
            if ended is None:
                continue
            self._ends[rank] = now
            if ended.si_code == os.CLD_EXITED and ended.si_status == 0:
                continue
            self._first_end = self._first_end or now
            # By SIGTERM torch ends those that have not failed.
            if ended.si_code == os.CLD_EXITED or ended.si_status in (signal.SIGTERM, *self._passed_on) or rank in self._told:
                continue
            self._told.add(rank)
            if now > self._first_end + (_WHILE_SAVING if self._passed_on else _TOGETHER):
                _say(f"error: rank {rank} did not leave with the others and was ended by {_name(ended.si_status)}")
            else:
                _say(_crash(rank, ended.si_status))
        if self._first_end:
            self._end_halted()

    def _end_halted(self) -> None:
        """Once a rank has failed: one that stands still (SIGSTOP) does not notice, nor would it torch's SIGTERM."""
        for rank, pid in self._ranks():
            if rank in self._ends or rank in self._told or _state(pid) not in ("T", "t"):
                continue
            self._told.add(rank)
            self._halted.add(rank)
            _say(f"error: rank {rank} was halted (SIGSTOP); it is ended now")
            os.kill(pid, signal.SIGKILL)

    def _ranks(self) -> Iterator[tuple[int, int]]:
        """Rank and process id of all that have been started."""
        for path in self._notes.glob("rank.*.*") if self._notes is not None else ():
            rank, pid = map(int, path.name.split(".")[1:])
            yield rank, pid

    def _children(self) -> list[int]:
        try:
            return [int(word) for word in Path(_CHILDREN.format(pid=os.getpid())).read_text(encoding="utf-8").split()]
        except OSError:  # a kernel without CONFIG_PROC_CHILDREN
            return [pid for _, pid in self._ranks() if _is_child(pid)]


def _state(pid: int) -> str:
    """Of the process, as /proc calls it; empty when it is not there."""
    try:
        # The name of the program, in brackets, may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


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
