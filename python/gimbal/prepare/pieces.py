"""The texts inside messages: taken out, replaced by sentinels, and put into parts."""

from __future__ import annotations

from typing import Any


def sentinel(index: int) -> str:
    """A text that no template changes: letters and digits only."""
    return f"Zq{index}qZ"


def with_sentinels(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[int]]:
    """The messages with a sentinel as each text, and the message that each sentinel stands in."""
    owners: list[int] = []
    result = []
    for number, message in enumerate(messages):
        content = message["content"]
        if isinstance(content, str):
            content = sentinel(len(owners))
            owners.append(number)
        else:
            parts = []
            for part in content:
                if part["type"] == "text":
                    part = {"type": "text", "text": sentinel(len(owners))}
                    owners.append(number)
                parts.append(part)
            content = parts
        result.append({"role": message["role"], "content": content})
    return result, owners


def text_pieces(messages: list[dict[str, Any]]) -> list[str]:
    """All texts of the messages, in order."""
    pieces: list[str] = []
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            pieces.append(content)
        else:
            pieces += [part["text"] for part in content if part["type"] == "text"]
    return pieces


def strings_to_parts(messages: list[dict[str, Any]]) -> None:
    """Rewrites string contents as lists of one text part, for templates that only know lists."""
    for message in messages:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
