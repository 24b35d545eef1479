"""Cuts source files into chunks of raw samples, at places that depend on the files alone.

A chunk knows where the next one begins, so that an interrupted run can go on from any chunk.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gimbal import UserError
from gimbal.prepare.config import PrepareConfig

CHUNK_SAMPLES = 256
CHUNK_BYTES = 8 << 20
_BLOCK = 1 << 20
_COLUMNS = ("messages", "conversations", "text", "images", "image", "system", "tools", "id")
_SPACE = " \t\r\n"


@dataclass(frozen=True)
class Position:
    """A place in the inputs: number in `config.inputs`, byte offset (JSONL only) and samples (lines, rows) before it."""

    input: int = 0
    offset: int = 0
    line: int = 0


@dataclass
class Chunk:
    """Raw samples: a list of JSON texts, or an Arrow record batch. `bytes_done` counts towards the progress bar."""

    number: int
    source: int
    file: int
    first_line: int
    payload: Any
    next: Position
    bytes_done: int


def read_chunks(config: PrepareConfig, file_bytes: list[int], start: Position, first_number: int) -> Iterator[Chunk]:
    """All chunks from `start` on. `file_bytes`: sizes of the inputs. Raises UserError for a file that can't be cut."""
    number = first_number
    for index, (source, file) in enumerate(config.inputs):
        if index < start.input:
            continue
        at = start if index == start.input else Position(index)
        path = config.sources[source].files[file]
        before = sum(file_bytes[:index])
        for payload, first, next_at, done in _open(path, at, file_bytes[index]):
            yield Chunk(number, source, file, first, payload, next_at, before + done)
            number += 1


def _open(path: str, at: Position, size: int) -> Iterator[tuple[Any, int, Position, int]]:
    if path.endswith(".parquet"):
        return _parquet(path, at, size)
    if path.endswith(".json") and _starts_with(path, "["):
        return _json_array(path, at, size)
    return _lines(path, at)


def _starts_with(path: str, character: str) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        while block := file.read(4096):
            if stripped := block.lstrip(_SPACE):
                return stripped[0] == character
    return False


def _lines(path: str, at: Position) -> Iterator[tuple[list[bytes], int, Position, int]]:
    with open(path, "rb") as file:
        file.seek(at.offset)
        offset, line = at.offset, at.line
        payload: list[bytes] = []
        held = 0
        for text in file:
            payload.append(text.removeprefix(codecs.BOM_UTF8) if offset == 0 else text)
            offset += len(text)
            held += len(text)
            if len(payload) == CHUNK_SAMPLES or held >= CHUNK_BYTES:
                yield payload, line + 1, Position(at.input, offset, line + len(payload)), offset
                line += len(payload)
                payload, held = [], 0
        if payload:
            yield payload, line + 1, Position(at.input, offset, line + len(payload)), offset


def _json_array(path: str, at: Position, size: int) -> Iterator[tuple[list[str], int, Position, int]]:
    payload: list[str] = []
    line, held, done = 0, 0, 0
    for element, done in _elements(path):
        line += 1
        if line <= at.line:
            continue
        payload.append(element)
        held += len(element)
        if len(payload) == CHUNK_SAMPLES or held >= CHUNK_BYTES:
            yield payload, line - len(payload) + 1, Position(at.input, 0, line), min(done, size)
            payload, held = [], 0
    if payload:
        yield payload, line - len(payload) + 1, Position(at.input, 0, line), min(done, size)


def _elements(path: str) -> Iterator[tuple[str, int]]:
    """The texts of a JSON array's elements and the characters read so far, in bounded memory."""
    with open(path, encoding="utf-8-sig") as file:
        window = _Window(file, path)
        window.skip("[")
        if window.peek() == "]":
            window.skip("]")
        else:
            while True:
                yield window.element(), window.characters
                if window.peek() != ",":
                    break
                window.skip(",")
            window.skip("]")
        if window.peek():
            raise window.error("text after the end")


class _Window:
    """A sliding window over a JSON text."""

    def __init__(self, file, path: str) -> None:
        self._file, self._path = file, path
        self._buffer, self._place, self._read = "", 0, 0
        self._decode = json.JSONDecoder().raw_decode

    @property
    def characters(self) -> int:
        return self._read - len(self._buffer) + self._place

    def error(self, what: str) -> UserError:
        return UserError(
            f"{self._path}: not a JSON array ({what}, near character {self.characters}); repair it or use .jsonl"
        )

    def peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._place < len(self._buffer) and self._buffer[self._place] in _SPACE:
                self._place += 1
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._fill(_BLOCK):
                return ""

    def skip(self, character: str) -> None:
        if self.peek() != character:
            raise self.error(f"'{character}' expected")
        self._place += 1

    def element(self) -> str:
        """The text of the next value."""
        self.peek()
        block = _BLOCK
        while True:
            try:
                end, problem = self._decode(self._buffer, self._place)[1], "it ends too early"
            except ValueError as error:
                end, problem = len(self._buffer), str(error)
            # What reaches the end of the window may go on behind it.
            if end < len(self._buffer):
                text = self._buffer[self._place : end]
                self._place = end
                return text
            if not self._fill(block):
                raise self.error(problem)
            # Doubling keeps repeated attempts on one huge element linear in total.
            block *= 2

    def _fill(self, size: int) -> bool:
        try:
            more = self._file.read(size)
        except UnicodeDecodeError as error:
            raise UserError(f"{self._path}: not UTF-8 ({error})") from error
        self._buffer, self._place = self._buffer[self._place :] + more, 0
        self._read += len(more)
        return bool(more)


def _parquet(path: str, at: Position, size: int) -> Iterator[tuple[Any, int, Position, int]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in _COLUMNS]
            row = 0
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if row + rows <= at.line:
                    row += rows
                    continue
                row_bytes = file.metadata.row_group(group).total_byte_size // max(rows, 1)
                batch_rows = max(1, min(CHUNK_SAMPLES, CHUNK_BYTES // max(row_bytes, 1)))
                for batch in file.iter_batches(batch_rows, row_groups=[group], columns=columns, use_threads=False):
                    # Arrow may cut batches where it likes; numbers of rows keep the place.
                    first, row = row, row + batch.num_rows
                    if row > at.line:
                        batch = batch.slice(max(at.line - first, 0))
                        first = max(at.line, first)
                        yield batch, first + 1, Position(at.input, 0, row), size * row // file.metadata.num_rows
    except (arrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not readable as Parquet ({error})") from error
