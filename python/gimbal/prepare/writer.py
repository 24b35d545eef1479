"""Appends chunk results to the files of a dataset folder, numbers media, and keeps the counts."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gimbal.prepare import records
from gimbal.prepare.media import MediaItem
from gimbal.prepare.media_table import MediaTable
from gimbal.prepare.resume import KEYS_FILE
from gimbal.prepare.worker import ChunkResult

_COUNTS = ("samples", "rejected", "tokens", "loss_tokens", "loss_spans", "vision_rows", "media_refs", "media")


class DatasetWriter:
    """Call `write` per chunk, in order; `sync` before the state it returns is made durable."""

    def __init__(self, folder: Path, num_sources: int, state: dict[str, Any] | None) -> None:
        """`state`: what `sync` returned when the files were last known to be good; None for a new folder."""
        self._folder = folder
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.max = {"text": 0, "vision": 0}
        self.sources = [{"samples": 0, "rejected": 0} for _ in range(num_sources)]
        self.reasons: Counter[str] = Counter()
        self._sizes = dict.fromkeys((*records.DATA_FILES, KEYS_FILE), 0)
        if state is not None:
            self.counts, self.max, self.sources = state["counts"], state["max"], state["sources"]
            self.reasons = Counter(state["reasons"])
            self._sizes = state["sizes"]
        self._files = {}
        for name, size in self._sizes.items():
            file = open(folder / name, "ab")
            if file.tell() < size:
                raise OSError(f"{folder / name}: {file.tell()} bytes, the journal says {size}")
            file.truncate(size)
            self._files[name] = file
        self._media = MediaTable()
        if state is not None:
            self._load_keys()

    def _load_keys(self) -> None:
        with open(self._folder / KEYS_FILE, "rb") as file:
            while block := file.read(16 << 12):
                for place in range(0, len(block), 16):
                    self._media.find_or_add(block[place : place + 16])

    def write(self, result: ChunkResult, source: int) -> None:
        index = result.index
        numbers = np.array([self._number(item) for item in result.media], dtype=records.REF)
        counts = self.counts
        index["token_begin"] += counts["tokens"]
        index["loss_span_begin"] += counts["loss_spans"]
        index["media_begin"] += counts["media_refs"]
        refs = numbers[result.refs] if len(result.refs) else result.refs
        for name, data in (
            (records.INDEX_FILE, index),
            (records.TOKENS_FILE, result.tokens),
            (records.SPANS_FILE, result.spans),
            (records.REFS_FILE, refs),
        ):
            self._append(name, data.tobytes())
        counts["samples"] += len(index)
        counts["tokens"] += len(result.tokens)
        counts["loss_tokens"] += int(index["num_loss_tokens"].sum(dtype=np.uint64))
        counts["loss_spans"] += len(result.spans)
        counts["vision_rows"] += int(index["vision_rows"].sum(dtype=np.uint64))
        counts["media_refs"] += len(refs)
        counts["media"] = len(self._media)
        if len(index):
            self.max["text"] = max(self.max["text"], int(index["num_tokens"].max()))
            self.max["vision"] = max(self.max["vision"], int(index["vision_rows"].max()))
        counts["rejected"] += len(result.rejected)
        self.sources[source]["samples"] += len(index)
        self.sources[source]["rejected"] += len(result.rejected)
        for reason, line in result.rejected:
            self.reasons[reason] += 1
            self._append(records.REJECTED_FILE, line)

    def _number(self, item: MediaItem) -> int:
        number, is_new = self._media.find_or_add(item.key)
        if is_new:
            data_file = records.PATHS_FILE if item.blob is None else records.BLOBS_FILE
            data = item.path if item.blob is None else item.blob
            storage = records.STORAGE_FILE if item.blob is None else records.STORAGE_BLOB
            tiling = item.tiling
            record = np.array(
                (self._sizes[data_file], item.byte_size, item.content_hash, len(item.path), storage, 0,
                 item.width, item.height, tiling.grid_columns, tiling.grid_rows, tiling.rows, 0),
                dtype=records.MEDIA,
            )  # fmt: skip
            self._append(data_file, data)
            self._append(records.MEDIA_FILE, record.tobytes())
            self._append(KEYS_FILE, item.key)
        return number

    def _append(self, name: str, data: bytes) -> None:
        self._files[name].write(data)
        self._sizes[name] += len(data)

    def sync(self) -> dict[str, Any]:
        """Brings everything written so far to the disk and returns the state that goes with it."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {
            "counts": dict(self.counts),
            "max": dict(self.max),
            "sources": [dict(source) for source in self.sources],
            "reasons": dict(self.reasons),
            "sizes": dict(self._sizes),
        }

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def checksums(self) -> dict[str, dict[str, Any]]:
        """Removes an empty blob file and returns bytes and SHA-256 of the others."""
        if self._sizes[records.BLOBS_FILE] == 0:
            (self._folder / records.BLOBS_FILE).unlink(missing_ok=True)
        result = {}
        for name in records.DATA_FILES:
            path = self._folder / name
            if path.is_file():
                result[name] = {"bytes": self._sizes[name], "sha256": file_sha256(path)}
        return result


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
