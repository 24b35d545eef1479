"""`python -m gimbal.launch --nproc N [--max-restarts K] -- PROGRAM ...`: torchrun on this machine, without its tracebacks.

The exit code is that of the process that failed first, so that bad input stays 2 and a failure 1. With `--max-restarts`
all processes of a job that has failed are started again, up to K times. What a process knows better than its exit code
can say, it leaves as a line in a file NAME.note in the folder $GIMBAL_LAUNCH_NOTES:

- `stopped NUMBER`: it has saved and left with exit code 0, because a rank of the job was sent this signal. torchrun ends
  the others of a process that leaves with another code, and some may still be saving. The job ends with 128 + NUMBER.
- `refused`: it leaves with exit code 2 because of its input, so that another start would end in the same way.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

# Saving a large model after SIGTERM takes longer than torch's 30 seconds.
_SECONDS_TO_SAVE = "600"
# torch's own and the one with which cluster schedulers announce the end of a job.
_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
# What asks a rank to leave; with 128 + these, or by them, leaves a program that writes no notes.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Every start is a torchrun of its own, which counts from 0; this stands before the program. exec: no process more.
_COUNTED = ["/bin/sh", "-c", 'export TORCHELASTIC_RESTART_COUNT="$0"; exec "$@"']


@dataclass
class _Ended:
    code: int
    again: bool = False  # a failure that another start may not have


def launch(num_processes: int, command: list[str], max_restarts: int = 0) -> int:
    """Runs the command in that many processes and returns the exit code."""
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SECONDS_TO_SAVE)
    from torch.distributed.elastic.multiprocessing.api import SignalException

    # The failing process has said what is wrong; torch would add the agent's own state.
    logging.disable(logging.ERROR)
    try:
        for attempt in range(max_restarts + 1):
            ended = _run_once(num_processes, [*_COUNTED, str(attempt), *command])
            if not ended.again:
                if ended.code == 2 and attempt < max_restarts:
                    print("warning: not started again: it would end in the same way", file=sys.stderr)
                break
        return ended.code
    except SignalException as error:
        return 128 + error.sigval


def _run_once(num_processes: int, command: list[str]) -> _Ended:
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # A standalone rendezvous listens on a free port, so that several runs share a machine; the loopback address needs no DNS.
    options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(num_processes), "--no-python"]
    options += ["--max-restarts", "0", "--signals-to-handle", _SIGNALS]
    with tempfile.TemporaryDirectory(prefix="gimbal_launch_") as notes:
        os.environ["GIMBAL_LAUNCH_NOTES"] = notes
        try:
            run.run(run.parse_args([*options, "--", *command]))
        except ChildFailedError as error:
            return _after_failure(error, _read_notes(notes))
        stopped = [words[1] for words in _read_notes(notes) if words[0] == "stopped"]
        return _Ended(128 + int(stopped[0]) if stopped else 0)


def _read_notes(folder: str) -> list[list[str]]:
    return [path.read_text(encoding="utf-8").split() for path in sorted(Path(folder).glob("*.note"))]


def _after_failure(error: ChildFailedError, notes: list[list[str]]) -> _Ended:
    # Those that torchrun has ended come after those that made it do so.
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    if code < 0:
        print(f"error: rank {rank} was ended by {signal.Signals(-code).name}", file=sys.stderr)
        code = 128 - code
    if code - 128 in _STOP:
        return _Ended(code)
    # A process whose partner has crashed or hangs may take that for a mistake of the user. None has if all left with 2.
    codes = {failure.exitcode for failure in error.failures.values()} - {-signal.SIGTERM}
    refused = codes == {2} and ["refused"] in notes
    return _Ended(code, again=not refused)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gimbal.launch")
    parser.add_argument("--nproc", type=int, required=True)
    parser.add_argument("--max-restarts", type=int, default=0)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    return launch(arguments.nproc, arguments.command, arguments.max_restarts)


if __name__ == "__main__":
    sys.exit(main())
