"""Reads a dataset folder (docs/dataset_format.md): memory-mapped, each access O(1)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gimbal import UserError
from gimbal.prepare import records


@dataclass(frozen=True)
class Media:
    """One picture. `path` is absolute, None for an embedded one (`Dataset.media_bytes` reads both)."""

    number: int
    path: Path | None
    width: int
    height: int
    rows: int
    byte_size: int
    offset: int


@dataclass(frozen=True)
class Sample:
    """One sample: token ids with the placeholders expanded, loss spans [begin, end), pictures in order."""

    number: int
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
        self.index = self._map(records.INDEX_FILE, records.INDEX)
        self._tokens = self._map(records.TOKENS_FILE, records.TOKEN)
        self._spans = self._map(records.SPANS_FILE, records.SPAN)
        self._refs = self._map(records.REFS_FILE, records.REF)
        self._media = self._map(records.MEDIA_FILE, records.MEDIA)
        self._paths = self._map(records.PATHS_FILE, np.dtype("u1"))
        self._blobs = self._map(records.BLOBS_FILE, np.dtype("u1"), optional=True)
        expected = self.manifest["counts"]["samples"]
        if len(self.index) != expected:
            raise UserError(
                f"{self.folder / records.INDEX_FILE}: {len(self.index)} samples, but the manifest says {expected}; "
                "run `gimbal prepare` again"
            )

    def __len__(self) -> int:
        return len(self.index)

    def sample(self, number: int) -> Sample:
        """Returns one sample; IndexError when there is none of that number."""
        if not 0 <= number < len(self):
            raise IndexError(f"{self.folder}: no sample {number}, there are {len(self)}")
        record = self.index[number]
        spans = _slice(self._spans, record["loss_span_begin"], record["num_loss_spans"])
        refs = _slice(self._refs, record["media_begin"], record["num_media"])
        source = int(record["source"])
        files = self.manifest["sources"][source]["files"]
        return Sample(
            number=number,
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
            text = _slice(self._paths, record["path_begin"], record["path_length"]).tobytes().decode("utf-8")
            path = Path(self.manifest.get("media_root") or ".") / text
        return Media(
            number=number,
            path=path,
            width=int(record["width"]),
            height=int(record["height"]),
            rows=int(record["rows"]),
            byte_size=int(record["byte_size"]),
            offset=int(record["path_begin"]),
        )

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
            raise UserError(f"{self.folder}: not a finished dataset folder (no manifest.json)") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: can't be read ({error})") from error
        if not isinstance(manifest, dict) or manifest.get("format") != records.FORMAT:
            raise UserError(f"{path}: not the manifest of a Gimbal dataset")
        if manifest.get("version") != records.VERSION:
            raise UserError(
                f"{path}: format version {manifest.get('version')}, this program reads {records.VERSION}; "
                "run `gimbal prepare` again"
            )
        return manifest

    def _map(self, name: str, dtype: np.dtype, optional: bool = False) -> np.ndarray:
        path = self.folder / name
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            if optional:
                return np.empty(0, dtype)
            raise UserError(f"{path}: missing; run `gimbal prepare` again") from None
        if size % dtype.itemsize:
            raise UserError(f"{path}: {size} bytes are no whole number of records; run `gimbal prepare` again")
        # An empty file can't be mapped.
        return np.memmap(path, dtype=dtype, mode="r") if size else np.empty(0, dtype)


def _slice(array: np.ndarray, begin: int, count: int) -> np.ndarray:
    return array[int(begin) : int(begin) + int(count)]
