"""Drives tests/support/image_dump, which decodes and processes pictures as the trainer does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]


def tool_path() -> Path:
    build = Path(os.environ.get("GIMBAL_BUILD_DIR", ROOT / "build" / "release"))
    return build / "tests" / "support" / "image_dump"


class ToolError(Exception):
    """The message of a UserError of the tool."""


class ImageTool:
    """One running process that answers one line for each command."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "tool_output"
        self.process = subprocess.Popen([tool_path()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait() == 0

    def command(self, *words: object) -> tuple[int, int]:
        self.process.stdin.write("\t".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().rstrip("\n")
        kind, _, rest = answer.partition(" ")
        if kind != "ok":
            raise ToolError(rest if kind == "error" else f"the tool has died: {answer!r}")
        width, height = rest.split()
        return int(width), int(height)

    def decode(self, image: Path) -> np.ndarray:
        """The picture as [height, width, 3] uint8."""
        width, height = self.command("decode", image, self.out)
        return np.fromfile(self.out, dtype=np.uint8).reshape(height, width, 3)

    def process_image(self, processor: Path, image: Path, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """The tiles as [I, 3, height, width] float32."""
        self.command("process", processor, image, *grid, self.out)
        return np.fromfile(self.out, dtype=np.float32).reshape(-1, 3, *size)
