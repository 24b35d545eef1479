"""Runs `gimbal balance` and reads what it leaves behind. The files of packs are read by their documented bytes alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gimbal.generate.programs import find_program

LENGTHS = Path(__file__).resolve().parents[2] / "bench" / "balance" / "lengths"
SHARED = [LENGTHS / f"{name}.csv" for name in ("ai2d_12k", "chartqa_18k", "docvqa_10k")]
KEYS = {
    "samples_in", "samples_packed", "samples_rejected", "packs", "packs_lower_bound", "fill", "waste", "slots", "order_correlation",
    "source_mix_ratio", "pattern_seconds", "pack_seconds", "total_seconds", "peak_bytes",
}  # fmt: skip


def balance(*words: object, code: int = 0, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Runs the command; it has to end with `code`."""
    ended = subprocess.run(
        [find_program("gimbal"), "balance", *map(str, words)],
        env={**os.environ, "GIMBAL_PYTHON": python},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == code, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    assert "terminate called" not in ended.stderr, ended.stderr
    return ended


def figures(*words: object) -> dict[str, Any]:
    return json.loads(balance(*words, "--json", "-").stdout)


def refused(*words: object) -> str:
    """The message of a command that has to end with exit code 2; it prints no result."""
    ended = balance(*words, code=2)
    assert ended.stdout == ""
    return ended.stderr


def write_csv(path: Path, header: str, rows: list[tuple[int, ...]]) -> Path:
    path.write_text(header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def tiled(count: int, seed: int = 0) -> list[tuple[int, int]]:
    """Sizes like those of pictures that are cut into tiles, with text beside."""
    draw = random.Random(seed)
    return [(tiles, 256 * tiles + draw.randint(10, 300)) for tiles in (draw.choice([1, 3, 3, 5]) for _ in range(count))]


@dataclass
class PackFile:
    packs: list[list[int]]
    num_samples: int
    packs_per_step: int
    packs_per_slot: int
    seed: int
    epoch: int


def read_packs(path: Path) -> PackFile:
    """As docs/balance_command.md describes the bytes."""
    data = path.read_bytes()
    magic, version, header_bytes = struct.unpack_from("<8sII", data)
    assert (magic, version, header_bytes) == (b"GBPACKS\0", 1, 136)
    num_packs, num_entries, num_samples, per_step, per_slot, seed, epoch = struct.unpack_from("<7Q", data, 16)
    assert hashlib.sha256(data[:72] + data[136:]).hexdigest().encode() == data[72:136]
    offsets = struct.unpack_from(f"<{num_packs + 1}Q", data, 136)
    samples_at = 136 + 8 * (num_packs + 1)
    samples = struct.unpack_from(f"<{num_entries}I", data, samples_at)
    assert len(data) == samples_at + (4 * num_entries + 7) // 8 * 8
    packs = [list(samples[a:b]) for a, b in zip(offsets, offsets[1:])]
    return PackFile(packs, num_samples, per_step, per_slot, seed, epoch)
