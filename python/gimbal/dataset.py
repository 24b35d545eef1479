"""Reads a dataset folder (docs/dataset_format.md): memory-mapped, each access O(1)."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gimbal import UserError
from gimbal.prepare import records


@dataclass(frozen=True)
class Media:
    """One picture. `path` is absolute, None for an embedded one (`Dataset.media_bytes` reads both); `name` is for people."""

    number: int
    name: str
    path: Path | None
    width: int
    height: int
    grid_columns: int
    grid_rows: int
    rows: int
    byte_size: int
    offset: int


@dataclass(frozen=True)
class Sample:
    """One sample: token ids with the placeholders expanded, loss spans [begin, end), pictures in order."""

    number: int
    record: np.void
    tokens: np.ndarray
    spans: list[tuple[int, int]]
    media: list[Media]
    source: int
    file: str
    line: int


class Dataset:
    """A finished dataset folder. Raises UserError when it is not one."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = self._read_manifest()
        counts = self.manifest["counts"]
        self.index = self._map(records.INDEX_FILE, records.INDEX, counts["samples"])
        self._tokens = self._map(records.TOKENS_FILE, records.TOKEN, counts["tokens"])
        self._spans = self._map(records.SPANS_FILE, records.SPAN, counts["loss_spans"])
        self._refs = self._map(records.REFS_FILE, records.REF, counts["media_refs"])
        self._media = self._map(records.MEDIA_FILE, records.MEDIA, counts["media"])
        self._paths = self._map_bytes(records.PATHS_FILE)
        self._blobs = self._map_bytes(records.BLOBS_FILE)

    def __len__(self) -> int:
        return len(self.index)

    def sample(self, number: int) -> Sample:
        """One sample, counted from 0. Raises UserError if there is none of that number."""
        if not 0 <= number < len(self):
            raise UserError(f"{self.folder}: no sample {number}; it has samples 0 to {len(self) - 1}")
        record = self.index[number]
        spans = _slice(self._spans, record["loss_span_begin"], record["num_loss_spans"])
        refs = _slice(self._refs, record["media_begin"], record["num_media"])
        source = int(record["source"])
        files = self.manifest["sources"][source]["files"]
        return Sample(
            number=number,
            record=record,
            tokens=_slice(self._tokens, record["token_begin"], record["num_tokens"]),
            spans=[(int(span["begin"]), int(span["end"])) for span in spans],
            media=[self.media(int(ref)) for ref in refs],
            source=source,
            file=str(files[int(record["source_file"])]["path"]),
            line=int(record["source_line"]),
        )

    def media(self, number: int) -> Media:
        record = self._media[number]
        path = None
        if record["storage"] == records.STORAGE_FILE:
            name = os.fsdecode(_slice(self._paths, record["path_begin"], record["path_length"]).tobytes())
            path = Path(self.manifest.get("media_root") or ".") / name
        else:
            name = f"embedded image {number} (SHA-256 {int(record['content_hash']).to_bytes(8, 'little').hex()}...)"
        sizes = {key: int(record[key]) for key in ("width", "height", "grid_columns", "grid_rows", "rows", "byte_size")}
        return Media(number=number, name=name, path=path, offset=int(record["path_begin"]), **sizes)

    def source_of(self, record: np.void) -> tuple[str, str, int]:
        """(source name, file, line) that a sample came from."""
        source = self.manifest["sources"][int(record["source"])]
        return source["name"], source["files"][int(record["source_file"])]["path"], int(record["source_line"])

    def rejections(self) -> dict[str, int]:
        """Number of rejected samples by reason."""
        return dict(self.manifest["rejected_by_reason"])

    def first_rejections(self, limit: int) -> list[dict[str, Any]]:
        """The first lines of the listing of rejected samples."""
        with open(self.folder / records.REJECTED_FILE, encoding="utf-8") as file:
            return [json.loads(line) for line in itertools.islice(file, limit)]

    def media_bytes(self, media: Media) -> bytes:
        """The encoded picture; OSError when its file can't be read."""
        if media.path is not None:
            return media.path.read_bytes()
        return _slice(self._blobs, media.offset, media.byte_size).tobytes()

    def _read_manifest(self) -> dict[str, Any]:
        path = self.folder / records.MANIFEST_FILE
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            partial = self.folder.with_name(self.folder.name + ".partial")
            hint = f"; {partial} is an unfinished one, run gimbal prepare again" if partial.is_dir() else ""
            raise UserError(f"{path}: no such file; not a (finished) dataset folder{hint}") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not readable ({error}); prepare the dataset again") from error
        if manifest.get("format") != records.FORMAT or manifest.get("version") != records.VERSION:
            raise UserError(
                f"{path}: format {manifest.get('format')!r} version {manifest.get('version')!r}, "
                f"this program reads {records.FORMAT} version {records.VERSION}"
            )
        return manifest

    def _map(self, name: str, dtype: np.dtype, count: int) -> np.ndarray:
        path = self.folder / name
        size = path.stat().st_size if path.is_file() else -1
        if size != count * dtype.itemsize:
            found = f"{size} bytes" if size >= 0 else "no file"
            raise UserError(f"{path}: {found}, the manifest says {count * dtype.itemsize} bytes; prepare the dataset again")
        return np.memmap(path, dtype, "r") if count else np.zeros(0, dtype)

    def _map_bytes(self, name: str) -> np.ndarray:
        path = self.folder / name
        # An empty file can't be mapped.
        return np.memmap(path, "u1", "r") if path.is_file() and path.stat().st_size else np.empty(0, "u1")


def _slice(array: np.ndarray, begin: int, count: int) -> np.ndarray:
    return array[int(begin) : int(begin) + int(count)]
