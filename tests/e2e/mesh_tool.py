"""Runs on a mesh of processes: overrides, ranks behind a launcher, and what errors have to name."""

from __future__ import annotations

import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

from e2e_tool import Job, children

AXES = ("pp", "dp_replicate", "dp_shard", "sp", "tp")


def mesh(**axes: int) -> dict[str, Any]:
    """Overrides of a recipe: the named axes, all others 1."""
    assert set(axes) <= set(AXES)
    return {f"parallel.{axis}": axes.get(axis, 1) for axis in AXES}


def coordinates(axes: dict[str, int], rank: int) -> str:
    """What errors call the rank's place: "pp 1, tp 0"; tp varies first."""
    places = {}
    for axis in reversed(AXES):
        rank, places[axis] = divmod(rank, axes.get(axis, 1))
    return ", ".join(f"{axis} {places[axis]}" for axis in AXES if axes.get(axis, 1) > 1)


def launched_ranks(launcher: int) -> dict[int, int]:
    """Rank -> process id of the processes that `--nproc` has started."""
    found = {}
    for pid in children(launcher):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        for variable in variables:
            if variable.startswith(b"RANK="):
                found[int(variable[5:])] = pid
    return found


COLLECTIVES = (
    r"(?:all_reduce_sum|all_gather|all_gather_into|reduce_scatter_sum|all_to_all|broadcast|barrier|send to rank \d+|receive from rank \d+)"
)


def failed_ranks(log: str, axes: dict[str, int], num_ranks: int) -> set[int]:
    """The ranks that say which collective failed on them, each with its place and this host."""
    pattern = COLLECTIVES + rf" of '[^']+' failed on rank (\d) of {num_ranks} \(([^;)]*); host ([^)]+)\)"
    ranks = set()
    for rank, place, host in re.findall(pattern, log):
        assert place == coordinates(axes, int(rank)), (rank, place)
        assert host == socket.gethostname()
        ranks.add(int(rank))
    return ranks


def hit(job: Job, victim: int, number: int, seconds: float) -> None:
    """Sends a signal to one rank and checks that all others leave with an error within `seconds`. Ends what is left."""
    job.processes[victim].send_signal(number)
    deadline = time.monotonic() + seconds
    others = [process for rank, process in enumerate(job.processes) if rank != victim]
    while any(process.poll() is None for process in others) and time.monotonic() < deadline:
        time.sleep(0.02)
    codes = [process.poll() for process in others]
    job.close()
    log = job.log.read_text()
    assert None not in codes, f"still running after {seconds} s: {codes}\n{log}"
    # 2 would be bad input; below 0: ended by a signal, without a message.
    assert set(codes) == {1}, f"{codes}\n{log}"
    assert "terminate called" not in log and "Traceback" not in log, log
    if number == signal.SIGKILL:
        assert job.processes[victim].returncode == -signal.SIGKILL
