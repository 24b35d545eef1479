"""Turns a stream of token ids into text, never showing half a character."""

from __future__ import annotations

from collections.abc import Callable

INCOMPLETE = "\ufffd"


class StreamDecoder:
    """`decode` maps a list of ids to text. A character may take several tokens, and what a token looks like may depend on the
    one before; so a text is shown when it no longer ends in an incomplete character, and is decoded together with the
    piece shown before it."""

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._begin = 0
        self._shown = 0

    def push(self, token: int) -> str:
        """The text that this token completes; often empty."""
        self._ids.append(token)
        new = self._pending()
        if not new or new.endswith(INCOMPLETE):
            return ""
        self._begin, self._shown = self._shown, len(self._ids)
        return new

    def finish(self) -> str:
        """What is left at the end: bytes that are no character are shown as such."""
        return self._pending()

    def _pending(self) -> str:
        before = self._decode(self._ids[self._begin : self._shown])
        return self._decode(self._ids[self._begin :])[len(before) :]
