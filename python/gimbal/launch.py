"""`python -m gimbal.launch N PROGRAM ...`: torchrun with N processes on this machine, without its tracebacks.

The exit code is that of the process that failed first, so that bad input stays 2 and a failure 1.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

# Saving a large model after SIGTERM takes longer than torch's 30 seconds.
_SECONDS_TO_SAVE = "600"


def launch(num_processes: int, command: list[str]) -> int:
    """Runs the command in that many processes and returns the exit code."""
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _SECONDS_TO_SAVE)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # The failing process has said what is wrong; torch would add the agent's own state.
    logging.disable(logging.ERROR)
    # A standalone rendezvous listens on a free port, so that several runs share a machine; the loopback address needs no DNS.
    options = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(num_processes), "--no-python"]
    try:
        run.run(run.parse_args([*options, *command]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        name = signal.Signals(-failure.exitcode).name
        print(f"error: rank {rank} was ended by {name}", file=sys.stderr)
        return 128 - failure.exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == "__main__":
    sys.exit(launch(int(sys.argv[1]), sys.argv[2:]))
