"""What the balance benches share: the length data, made larger when asked, and running `gimbal balance`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent / "lengths"
FILES = {name: FOLDER / f"{name}.csv" for name in ("ai2d_12k", "chartqa_18k", "docvqa_10k")}
# Vision tiles, text tokens.
CAPS = ((9, 4096), (14, 4096), (15, 4384), (16, 4096), (16, 5376), (18, 6016), (20, 5824))


def binary() -> str:
    """The `gimbal` to measure: $GIMBAL, else the one on PATH, else the release build."""
    built = REPOSITORY / "build" / "release" / "apps" / "cli" / "gimbal"
    found = os.environ.get("GIMBAL") or shutil.which("gimbal") or (str(built) if built.is_file() else None)
    if found is None:
        raise SystemExit("gimbal: not on PATH and not built; run `make build`, or set GIMBAL to the program")
    return found


def read(name: str) -> np.ndarray:
    """[samples, 2] of one file: vision tiles and text tokens."""
    return np.loadtxt(FILES[name], delimiter=",", skiprows=1, dtype=np.uint32, ndmin=2)


def read_all() -> tuple[np.ndarray, np.ndarray]:
    """The three files together, and of each sample the number of its file."""
    parts = [read(name) for name in FILES]
    return np.concatenate(parts), np.repeat(np.arange(len(parts), dtype=np.uint32), [len(part) for part in parts])


def enlarge(sizes: np.ndarray, samples: int, seed: int = 0, jitter: int = 24) -> np.ndarray:
    """The data repeated up to `samples`; every sample's tokens are moved by up to `jitter`, so that no two copies need
    be the same. The largest size of the data is never exceeded: all caps stay usable. The order is random."""
    random = np.random.default_rng(seed)
    index = np.resize(np.arange(len(sizes)), samples)
    random.shuffle(index)
    result = sizes[index].astype(np.int64)
    result[:, 1] += random.integers(-jitter, jitter + 1, samples)
    # Tokens count those of the tiles; a sample keeps at least one of its own.
    np.clip(result[:, 1], result[:, 0] * 256 + 1, int(sizes[:, 1].max()), out=result[:, 1])
    return result.astype(np.uint32)


def write_csv(path: Path, sizes: np.ndarray) -> Path:
    # np.savetxt takes a minute for ten million rows.
    columns = [column.astype("U") for column in sizes.T]
    lines = np.char.add(np.char.add(columns[0], ","), columns[1])
    path.write_text("vision,tokens\n" + "\n".join(lines.tolist()) + "\n")
    return path


def balance(files: Iterable[Path], caps: Sequence[int], *options: object) -> dict:
    """Runs `gimbal balance` and returns what it writes with --json."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        words = [
            binary(),
            "balance",
            *files,
            "--cap",
            f"vision={caps[0]}",
            "--cap",
            f"tokens={caps[1]}",
            *options,
            "--json",
            out,
        ]
        done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(map(str, words))}: exit code {done.returncode}\n{done.stderr}")
        return json.loads(out.read_text())


def machine() -> dict:
    """What the times depend on."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return {"cores": os.cpu_count(), "processor": model, "load_average": os.getloadavg()[0]}


def verdict(failures: list[str]) -> int:
    """Prints what missed its limit on stderr; the exit code."""
    import sys

    for failure in failures:
        print(f"MISSED  {failure}", file=sys.stderr)
    print(f"{len(failures)} limits missed" if failures else "all limits met", file=sys.stderr)
    return 1 if failures else 0
