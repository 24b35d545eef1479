"""The progress line: redrawn in place on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO


def duration(seconds: float) -> str:
    """5 -> 0:05, 3725 -> 1:02:05."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Counts samples; the share of the work done is that of the source bytes."""

    def __init__(self, total_bytes: int, *, resumed_samples: int = 0, resumed_bytes: int = 0, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._interval = 0.2 if self._is_terminal else 5.0
        self._total_bytes = max(total_bytes, 1)
        self._start_samples, self._start_bytes = resumed_samples, resumed_bytes
        self._started = self._shown = time.monotonic()

    def update(self, samples: int, rejected: int, bytes_done: int) -> None:
        now = time.monotonic()
        if now - self._shown >= self._interval:
            self._shown = now
            self._write(self._line(samples, rejected, bytes_done, now - self._started), "\r", "\x1b[K")

    def finish(self, samples: int, rejected: int) -> None:
        seconds = max(time.monotonic() - self._started, 1e-9)
        rate = (samples - self._start_samples) / seconds
        self._write(
            f"prepare: {samples:,} samples in {duration(seconds)} ({rate:,.0f}/s), {rejected:,} rejected", "\r", "\x1b[K\n"
        )

    def _line(self, samples: int, rejected: int, bytes_done: int, seconds: float) -> str:
        share = min(bytes_done / self._total_bytes, 1.0)
        rate = (samples - self._start_samples) / max(seconds, 1e-9)
        done, left = bytes_done - self._start_bytes, self._total_bytes - bytes_done
        eta = duration(seconds * left / done) if done > 0 else "?"
        text = f"{share:4.0%}  {samples:,} samples  {rate:,.0f}/s  ETA {eta}"
        if rejected:
            text += f"  {rejected:,} rejected"
        if self._is_terminal:
            filled = int(share * 24)
            return f"prepare [{'#' * filled}{'.' * (24 - filled)}] {text}"
        return f"prepare: {text}"

    def _write(self, text: str, before: str, after: str) -> None:
        self._stream.write(f"{before}{text}{after}" if self._is_terminal else text + "\n")
        self._stream.flush()
