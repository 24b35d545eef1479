"""Runs the installed `gimbal` program as a user does, and reads what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gimbal.generate.programs import find_program
from safetensors.numpy import load_file

SECONDS = 150  # a run here takes about one; more means that it hangs


@dataclass
class Ended:
    """What a program left: exit code, and stderr of all its ranks."""

    code: int
    stderr: str
    stdout: str = ""


class Run:
    """A run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lines(self, kind: str) -> list[dict[str, Any]]:
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        complete = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in map(json.loads, complete) if line["kind"] == kind]

    def samples(self) -> list[dict[str, Any]]:
        """The sampler's log: per step the ids of [data rank][micro-batch]."""
        return [json.loads(line) for line in (self.folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]

    def packs(self) -> list[list[list[int]]]:
        """The ids of each step by micro-batch, without empty ones, in an order that no mesh has a say in."""
        return [sorted(part for parts in line["samples"] for part in parts if part) for line in self.samples()]

    def column(self, key: str) -> list[Any]:
        return [line[key] for line in self.lines("train")]

    @property
    def losses(self) -> np.ndarray:
        return np.array(self.column("loss"))

    def checkpoints(self) -> list[Path]:
        """Those that are complete by their names: neither unfinished (.partial) nor set aside (.unused)."""
        return sorted(path for path in (self.folder / "checkpoints").glob("step-*") if not path.suffix)

    def tensors(self, kind: str = "parameters", step: int | None = None) -> dict[str, np.ndarray]:
        """The whole parameters, or the `optimizer` state, of the newest checkpoint or of that after `step` steps."""
        path = self.checkpoints()[-1] if step is None else self.folder / "checkpoints" / f"step-{step:08d}"
        files = {file.name: load_file(file) for file in path.glob("rank-*.safetensors")}
        index = json.loads((path / "index.json").read_text())[kind]
        return {name: whole_tensor(name, entry, files) for name, entry in index.items()}

    def state(self) -> dict[str, Any]:
        return json.loads((self.checkpoints()[-1] / "state.json").read_text())["state"]

    def place(self) -> dict[str, Any]:
        """The newest state without what the clock says."""
        return {key: value for key, value in self.state().items() if key != "elapsed_milliseconds"}

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


def whole_tensor(name: str, entry: dict[str, Any], files: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """Puts the pieces of a tensor together as the index of a checkpoint says (docs/checkpoints.md)."""
    shape = entry["shape"]
    dtype = next(files[piece["file"]][name].dtype for piece in entry["pieces"]) if entry["pieces"] else np.float32
    whole = np.zeros(shape, dtype)
    parts: dict[tuple[int, int, int], np.ndarray] = {}
    for piece in entry["pieces"]:
        dim = piece.get("dim", -1)
        place = (dim, piece.get("part_begin", 0), piece.get("part_size", 1))
        part_shape = [place[2] if i == dim else length for i, length in enumerate(shape)]
        part = parts.setdefault(place, np.zeros(int(np.prod(part_shape)), dtype))
        part[piece["begin"] : piece["begin"] + piece["numel"]] = files[piece["file"]][name]
    for (dim, begin, size), values in parts.items():
        where = tuple(slice(begin, begin + size) if i == dim else slice(None) for i in range(len(shape)))
        whole[where] = values.reshape(whole[where].shape)
    return whole


def words_of(overrides: dict[str, Any]) -> list[str]:
    """Overrides as the command line takes them; lists and maps are YAML flow, which JSON is."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in overrides.items()]


def environment(**more: str) -> dict[str, str]:
    hidden = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, "OMP_NUM_THREADS": "1", **more}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Job:
    """Started processes: one `gimbal` command, or one per rank with the variables that torchrun sets.

    Ranks that are started directly save the seconds that torchrun needs to import torch.
    """

    def __init__(self, words: list[str], log: Path, ranks: int = 1, variables: dict[str, str] | None = None) -> None:
        self.log = log
        command = [find_program("gimbal"), *words]
        settings: list[dict[str, str]] = [{}]
        if ranks > 1:
            port = str(free_port())
            settings = [
                {"RANK": str(r), "LOCAL_RANK": str(r), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
                for r in range(ranks)
            ]  # fmt: skip
        with log.open("w") as err:
            self.processes = [
                subprocess.Popen(
                    command,
                    env=environment(**extra, **(variables or {})),
                    stdout=subprocess.PIPE,
                    stderr=err,
                    start_new_session=True,
                )
                for extra in settings
            ]

    def wait(self, seconds: float = SECONDS) -> Ended:
        """Waits for all processes. The exit code is the first that isn't 0. Ends those that hang, and fails."""
        deadline = time.monotonic() + seconds
        out = ""
        try:
            for process in self.processes:
                out += process.communicate(timeout=max(0.1, deadline - time.monotonic()))[0].decode()
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {seconds} s:\n{self.log.read_text()}") from error
        finally:
            self.close()
        codes = [process.returncode for process in self.processes]
        return Ended(next((code for code in codes if code), 0), self.log.read_text(), out)

    def wait_until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert all(process.poll() is None for process in self.processes), f"ended early:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"waited {seconds} s:\n{self.log.read_text()}"
            time.sleep(0.01)

    def signal(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                # The session that Popen made for it: the process itself and what it started.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def run(words: list[str | Path], log: Path, **options: Any) -> Ended:
    return Job([str(word) for word in words], log, **options).wait()


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Norm of the difference of all tensors over the norm of all tensors."""
    assert a.keys() == b.keys() and a
    difference = sum(float(np.sum((a[k].astype(np.float64) - b[k].astype(np.float64)) ** 2)) for k in a)
    return (difference / sum(float(np.sum(a[k].astype(np.float64) ** 2)) for k in a)) ** 0.5


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys() and a
    different = [name for name in a if a[name].tobytes() != b[name].tobytes()]
    assert not different, different


def assert_every_sample_once(run: Run, num_samples: int) -> None:
    """By the sampler's log: a line for each step, and in each whole epoch every sample once; in a part of one, none twice."""
    lines = run.samples()
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    for key in ("step", "epoch", "step_in_epoch"):
        assert [line[key] for line in lines] == run.column(key), key
    epochs: dict[int, list[int]] = {}
    for line in lines:
        epochs.setdefault(line["epoch"], []).extend(i for parts in line["samples"] for part in parts for i in part)
    last = max(epochs)
    for epoch, ids in epochs.items():
        assert len(set(ids)) == len(ids), f"epoch {epoch} has a sample twice"
        assert set(ids) <= set(range(num_samples))
        assert epoch == last or len(ids) == num_samples, f"epoch {epoch} has {len(ids)} of {num_samples} samples"
    counts = [sum(len(part) for parts in line["samples"] for part in parts) for line in lines]
    assert counts == run.column("samples")
