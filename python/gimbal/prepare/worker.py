"""Turns one chunk of raw samples into records whose positions count from the chunk's start."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from gimbal.prepare.config import PrepareConfig
from gimbal.prepare.formats import Conversation, PlainText, parse_sample
from gimbal.prepare.media import MediaItem, MediaReader
from gimbal.prepare.model import Model
from gimbal.prepare.readers import Chunk
from gimbal.prepare.records import INDEX, REF, SPAN, TOKEN
from gimbal.prepare.reject import Reject
from gimbal.prepare.template import ChatTemplate
from gimbal.prepare.tokens import Encoder, Tokenized


@dataclass(slots=True)
class ChunkResult:
    """Records of a chunk. Token, span and media positions, and media numbers, are local to it."""

    index: np.ndarray
    tokens: np.ndarray
    spans: np.ndarray
    refs: np.ndarray
    media: list[MediaItem]
    rejected: list[tuple[str, bytes]]
    first_rejection: str


@dataclass(slots=True)
class _Sample:
    line: int
    id: Any
    content: Conversation | PlainText | None = None
    media: list[MediaItem] | None = None
    tokenized: Tokenized | None = None
    reject: Reject | None = None


class Worker:
    """Processes chunks; pure apart from caches, so any worker gives the same result for a chunk."""

    def __init__(self, config: PrepareConfig, model: Model, stored_root: str) -> None:
        self._config = config
        self._model = model
        self._encoder = Encoder(model, config.max_tokens)
        self._template = ChatTemplate(model.tokenizer, model.end_markers)
        self._media = MediaReader(model.images.processor, stored_root) if model.images else None

    def process(self, chunk: Chunk) -> ChunkResult:
        folder = self._config.media_folder(chunk.source, chunk.file)
        samples = [self._parse(line, raw, folder) for line, raw in _raw_samples(chunk)]
        self._tokenize(samples)
        return self._pack(chunk, samples)

    def _parse(self, line: int, raw: Any, folder: str) -> _Sample:
        sample = _Sample(line, None)
        try:
            if not isinstance(raw, dict):
                try:
                    raw = json.loads(raw)
                except (ValueError, RecursionError) as error:
                    raise Reject("invalid_json", str(error)) from error
            if isinstance(raw, dict) and isinstance(raw.get("id"), (str, int)):
                sample.id = raw["id"]
            sample.content = parse_sample(raw, with_images=self._media is not None)
            if isinstance(sample.content, Conversation):
                if not any(sample.content.loss):
                    raise Reject("no_loss", "no assistant turn is trained on")
                sample.media = [self._media.read(image, folder) for image in sample.content.images]
        except Reject as reject:
            sample.reject = reject
        return sample

    def _tokenize(self, samples: list[_Sample]) -> None:
        chats = [s for s in samples if s.reject is None and isinstance(s.content, Conversation)]
        rendered = self._template.render([s.content for s in chats])
        for sample, result in zip(chats, rendered):
            sample.reject = result if isinstance(result, Reject) else _unencodable(result.text)
        usable = [(s, r) for s, r in zip(chats, rendered) if s.reject is None]
        encodings = self._encoder.encode([r.text for _, r in usable])
        for (sample, result), encoding in zip(usable, encodings):
            try:
                rows = [item.tiling.rows for item in sample.media]
                sample.tokenized = self._encoder.conversation(encoding, result, rows)
            except Reject as reject:
                sample.reject = reject
        for sample in samples:
            if sample.reject is None and isinstance(sample.content, PlainText):
                try:
                    if reject := _unencodable(sample.content.text):
                        raise reject
                    sample.media, sample.tokenized = [], self._encoder.plain(sample.content.text)
                except Reject as reject:
                    sample.reject = reject

    def _pack(self, chunk: Chunk, samples: list[_Sample]) -> ChunkResult:
        rows, spans, refs = [], [], []
        numbers: dict[bytes, int] = {}
        media: list[MediaItem] = []
        rejected: list[tuple[str, bytes]] = []
        first_rejection = ""
        tokens = []
        num_tokens = 0
        for sample in samples:
            if sample.reject is not None:
                rejected.append((sample.reject.reason, self._rejection(chunk, sample)))
                first_rejection = first_rejection or f"line {sample.line}: {sample.reject}"
                continue
            done = sample.tokenized
            vision = sum(item.tiling.rows for item in sample.media)
            num_loss = sum(end - begin for begin, end in done.spans)
            rows.append(
                (num_tokens, len(spans), len(refs), len(done.ids), num_loss, len(done.spans), len(sample.media),
                 vision, 0, chunk.source, sample.line, chunk.file, 0)
            )  # fmt: skip
            tokens.append(done.ids)
            num_tokens += len(done.ids)
            spans += done.spans
            for item in sample.media:
                if item.key not in numbers:
                    numbers[item.key] = len(media)
                    media.append(item)
                refs.append(numbers[item.key])
        return ChunkResult(
            np.array(rows, dtype=INDEX),
            np.concatenate(tokens) if tokens else np.zeros(0, TOKEN),
            np.array(spans, dtype=SPAN),
            np.array(refs, dtype=REF),
            media,
            rejected,
            first_rejection,
        )

    def _rejection(self, chunk: Chunk, sample: _Sample) -> bytes:
        source = self._config.sources[chunk.source]
        line = {
            "source": source.name,
            "file": source.files[chunk.file],
            "line": sample.line,
            "id": sample.id,
            "reason": sample.reject.reason,
            "detail": sample.reject.detail,
        }
        # Lone surrogates (from "\\ud800" in JSON) can't be encoded; the listing must not fail on them.
        return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _unencodable(text: str) -> Reject | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return Reject("invalid_json", f"the text holds half of a surrogate pair ({error.reason})")
    return None


def _raw_samples(chunk: Chunk):
    if isinstance(chunk.payload, list):
        for line, raw in enumerate(chunk.payload, chunk.first_line):
            # Empty lines are not samples.
            if raw.strip():
                yield line, raw
    else:
        for line, row in enumerate(chunk.payload.to_pylist(), chunk.first_line):
            yield line, row

