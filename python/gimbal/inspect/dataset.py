"""Maps a dataset folder for reading; the Python counterpart of the C++ reader."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gimbal import UserError
from gimbal.prepare import records


@dataclass
class MediaInfo:
    """One media item of a sample: its name, size in pixels, grid and rows."""

    name: str
    width: int
    height: int
    grid_columns: int
    grid_rows: int
    rows: int
    byte_size: int


@dataclass
class SampleInfo:
    """A sample with its token ids and loss spans."""

    record: np.void
    tokens: np.ndarray
    spans: list[tuple[int, int]]
    media: list[MediaInfo]


class DatasetReader:
    """Raises UserError, naming the file, if the folder is not a complete dataset."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = self._read_manifest()
        self.index = self._map(records.INDEX_FILE, records.INDEX, self.manifest["counts"]["samples"])
        self._tokens = self._map(records.TOKENS_FILE, records.TOKEN, self.manifest["counts"]["tokens"])
        self._spans = self._map(records.SPANS_FILE, records.SPAN, self.manifest["counts"]["loss_spans"])
        self._refs = self._map(records.REFS_FILE, records.REF, self.manifest["counts"]["media_refs"])
        self._media = self._map(records.MEDIA_FILE, records.MEDIA, self.manifest["counts"]["media"])

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

    def __len__(self) -> int:
        return len(self.index)

    def sample(self, i: int) -> SampleInfo:
        """Sample `i`, counted from 0. Raises UserError if there is none."""
        if not 0 <= i < len(self):
            raise UserError(f"{self.folder}: no sample {i}; it has samples 0 to {len(self) - 1}")
        record = self.index[i]
        begin, first, media = (int(record[key]) for key in ("token_begin", "loss_span_begin", "media_begin"))
        spans = self._spans[first : first + int(record["num_loss_spans"])]
        refs = self._refs[media : media + int(record["num_media"])]
        return SampleInfo(
            record,
            self._tokens[begin : begin + int(record["num_tokens"])],
            [(int(span["begin"]), int(span["end"])) for span in spans],
            [self.media(int(ref)) for ref in refs],
        )

    def media(self, number: int) -> MediaInfo:
        item = self._media[number]
        if item["storage"] == records.STORAGE_BLOB:
            name = f"embedded image {number} (SHA-256 {int(item['content_hash']).to_bytes(8, 'little').hex()}...)"
        else:
            with open(self.folder / records.PATHS_FILE, "rb") as file:
                file.seek(int(item["path_begin"]))
                name = os.fsdecode(file.read(int(item["path_length"])))
        sizes = (int(item[key]) for key in ("width", "height", "grid_columns", "grid_rows", "rows", "byte_size"))
        return MediaInfo(name, *sizes)

    def source_of(self, record: np.void) -> tuple[str, str, int]:
        """(source name, file, line) that a sample came from."""
        source = self.manifest["sources"][int(record["source"])]
        return source["name"], source["files"][int(record["source_file"])]["path"], int(record["source_line"])

    def rejections(self) -> dict[str, int]:
        """Number of rejected samples by reason."""
        return dict(self.manifest["rejected_by_reason"])

    def first_rejections(self, limit: int) -> list[dict[str, Any]]:
        """The first lines of the listing of rejected samples."""
        found: list[dict[str, Any]] = []
        with open(self.folder / records.REJECTED_FILE, encoding="utf-8") as file:
            for line in file:
                if len(found) == limit:
                    break
                found.append(json.loads(line))
        return found
