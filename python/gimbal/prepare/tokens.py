"""From rendered text to token ids and loss spans, with image placeholders expanded on the token level."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from gimbal import UserError
from gimbal.prepare.model import Images, Model
from gimbal.prepare.records import TOKEN
from gimbal.prepare.reject import Reject
from gimbal.prepare.template import Rendered


@dataclass(slots=True)
class Tokenized:
    """Ids of one sample and its loss spans as token positions, end exclusive."""

    ids: np.ndarray
    spans: list[tuple[int, int]]


class Encoder:
    """Tokenizes texts of one model. Raises UserError if token-level expansion would not equal textual expansion."""

    def __init__(self, model: Model, max_tokens: int) -> None:
        self._tokenizer = model.tokenizer
        self._backend = model.tokenizer.backend_tokenizer
        self._images = model.images
        self._eos_id = model.tokenizer.eos_token_id
        if self._eos_id is None:
            self._eos_id = model.eos_token_ids[0]
        self._max_tokens = max_tokens
        self._check_probe(model)

    def encode(self, texts: list[str]) -> list:
        """The backend's encodings, without the tokenizer's own start and end tokens: templates write theirs."""
        return self._backend.encode_batch(texts, add_special_tokens=False)

    def conversation(self, encoding, rendered: Rendered, rows: Sequence[int]) -> Tokenized:
        """`rows`: tiles of each image, in order. Raises Reject."""
        ids = encoding.ids
        offsets = encoding.offsets
        begins = [begin for begin, _ in offsets]
        ends = [end for _, end in offsets]
        # A token that is partly inside belongs to the span; offsets ascend, so bisection finds the borders.
        spans = [(bisect_right(ends, begin), bisect_left(begins, end)) for begin, end in rendered.spans]
        images = self._images
        places = [i for i, index in enumerate(ids) if index == images.context_id] if images else []
        if len(places) != len(rows):
            raise Reject("placeholder_count", f"{len(places)} image placeholders in the rendered text, but {len(rows)} images")
        added = [row * images.seq_length + 1 for row in rows] if images else []
        self._check_length(len(ids) + sum(added))
        if places:
            ids = _expand(ids, places, rows, images)
            shifts = [0]
            for count in added:
                shifts.append(shifts[-1] + count)
            # The model doesn't produce pictures: a placeholder inside a turn splits its span.
            spans = [part for span in spans for part in _without(span, places)]
            spans = [(b + shifts[bisect_left(places, b)], e + shifts[bisect_left(places, e)]) for b, e in spans]
        spans = [(max(begin, 1), end) for begin, end in spans if end > max(begin, 1)]
        if not spans:
            raise Reject("no_loss", "no assistant turn is trained on")
        return Tokenized(np.array(ids, dtype=TOKEN), spans)

    def plain(self, text: str) -> Tokenized:
        """A document: loss on all but the first token, an end token at the end. Raises Reject."""
        ids = self._backend.encode(text, add_special_tokens=True).ids
        if not ids or ids[-1] != self._eos_id:
            ids = [*ids, self._eos_id]
        if self._images and self._images.context_id in ids:
            count = ids.count(self._images.context_id)
            raise Reject("placeholder_count", f"{count} image placeholders in a `text` sample, but 0 images")
        self._check_length(len(ids))
        if len(ids) < 2:
            raise Reject("no_loss", "the text is empty")
        return Tokenized(np.array(ids, dtype=TOKEN), [(1, len(ids))])

    def _check_length(self, num_tokens: int) -> None:
        if self._max_tokens and num_tokens > self._max_tokens:
            raise Reject("too_long", f"{num_tokens} tokens > {self._max_tokens}")

    def _check_probe(self, model: Model) -> None:
        images = model.images
        probe = "Look: here\n\n and there."
        if images:
            context = images.context_token
            probe = f"a{context}\nb {context} c{context}{context}d"
        ids = self.encode([probe])[0].ids
        if self._tokenizer(probe, add_special_tokens=False)["input_ids"] != ids:
            raise UserError(f"{model.folder}: the tokenizer and its fast backend give different ids; its class is not supported")
        if not images:
            return
        places = [i for i, index in enumerate(ids) if index == images.context_id]
        rows = [1, 2, 3, 1]
        start, end = (self._tokenizer.convert_ids_to_tokens(i) for i in (images.start_id, images.end_id))
        text = probe
        for row in rows:
            # Mark the replaced ones so that the next replacement finds the next placeholder.
            text = text.replace(context, start + "\0" * (row * images.seq_length) + end, 1)
        expanded = self.encode([text.replace("\0", context)])[0].ids
        if len(places) != 4 or _expand(ids, places, rows, images) != expanded:
            raise UserError(f"{model.folder}: the tokenizer does not keep '{context}' apart from the text around it")


def _without(span: tuple[int, int], places: list[int]) -> list[tuple[int, int]]:
    """The parts of a span between the given positions."""
    begin, end = span
    parts = []
    for place in places[bisect_left(places, begin) : bisect_left(places, end)]:
        parts.append((begin, place))
        begin = place + 1
    return [*parts, (begin, end)]


def _expand(ids: list[int], places: list[int], rows: Sequence[int], images: Images) -> list[int]:
    result: list[int] = []
    last = 0
    for place, row in zip(places, rows):
        result += ids[last:place]
        result.append(images.start_id)
        result += [images.context_id] * (row * images.seq_length)
        result.append(images.end_id)
        last = place + 1
    result += ids[last:]
    return result
