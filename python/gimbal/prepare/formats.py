"""Recognises the common conversation formats and brings them into one form.

Each line is looked at by itself: `messages` (OpenAI style, image parts or `<image>` marks), `conversations` (LLaVA
and ShareGPT style) or `text`. What isn't understood is rejected, never guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from gimbal.prepare.reject import Reject

IMAGE_MARK = "<image>"
IMAGE_PART = {"type": "image"}
_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
# Keys of a message that are ours or handled here; anything else (tool_calls, name, ...) is the template's.
_OWN_KEYS = {"role", "content", "loss", "weight"}
_SPLIT_MARK = re.compile(r"<image>\n?")


@dataclass(slots=True)
class Conversation:
    """Messages for the chat template. A content is a string, or a list of image and text parts.

    `images` holds the references in the order of the image parts: a string (path, data URL) or bytes.
    `simple` is false when messages carry more than a role and a content.
    """

    messages: list[dict[str, Any]]
    images: list[str | bytes] = field(default_factory=list)
    loss: list[bool] = field(default_factory=list)
    tools: list[Any] | None = None
    simple: bool = True


@dataclass(slots=True)
class PlainText:
    text: str


def parse_sample(sample: Any, *, with_images: bool) -> Conversation | PlainText:
    """Raises Reject. `with_images` false: the model is a text model, where `<image>` in a text is just text."""
    if not isinstance(sample, dict):
        raise Reject("invalid_json", f"the line holds {type(sample).__name__}, not an object")
    if sample.get("messages") is not None:
        return _Builder(sample, with_images).from_messages(sample["messages"])
    if sample.get("conversations") is not None:
        return _Builder(sample, with_images).from_turns(sample["conversations"])
    if sample.get("text") is not None:
        if not isinstance(sample["text"], str):
            raise Reject("unknown_format", "`text` is not a string")
        if _listed_images(sample):
            raise Reject("unknown_format", "a `text` sample can't have images; use `messages`")
        return PlainText(sample["text"])
    keys = ", ".join(sorted(map(str, sample))[:8]) or "none"
    raise Reject("unknown_format", f"none of the keys messages, conversations, text (keys: {keys})")


def _listed_images(sample: dict[str, Any]) -> list[Any]:
    found = sample.get("images") if sample.get("images") is not None else sample.get("image")
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def image_reference(value: Any) -> str | bytes:
    """A path, URL or bytes out of the forms that data sets use."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return image_reference(value["bytes"])
        for key in ("path", "url", "image"):
            if value.get(key):
                return image_reference(value[key])
    raise Reject("unknown_format", f"an image must be a path, a data URL or bytes, not {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _Builder:
    def __init__(self, sample: dict[str, Any], with_images: bool) -> None:
        self._sample = sample
        self._listed = _listed_images(sample)
        self._with_images = with_images
        self._next_listed = 0
        self._num_placeholders = 0
        self._result = Conversation([])

    def from_messages(self, messages: Any) -> Conversation:
        if not isinstance(messages, list) or not messages:
            raise Reject("unknown_format", "`messages` is not a list of messages")
        tools = self._sample.get("tools")
        if tools is not None:
            if not isinstance(tools, list):
                raise Reject("unknown_format", "`tools` is not a list")
            self._result.tools, self._result.simple = tools or None, not tools
        for number, message in enumerate(messages):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                raise Reject("unknown_format", f"message {number + 1} has no role")
            extra = {k: v for k, v in message.items() if k not in _OWN_KEYS and v is not None}
            content = message.get("content")
            if content is None and not extra:
                raise Reject("unknown_format", f"message {number + 1} has no content")
            self._add(message["role"], content if content is not None else "", message, number, extra)
        return self._finish()

    def from_turns(self, turns: Any) -> Conversation:
        if not isinstance(turns, list) or not turns:
            raise Reject("unknown_format", "`conversations` is not a list of turns")
        system = self._sample.get("system")
        if isinstance(system, str) and system:
            self._add("system", system, {}, 0, {})
        for number, turn in enumerate(turns):
            if not isinstance(turn, dict):
                raise Reject("unknown_format", f"turn {number + 1} is not an object")
            role = _ROLES.get(str(turn.get("from")))
            if role is None:
                raise Reject("unknown_format", f"turn {number + 1}: 'from' is {turn.get('from')!r}, not human, gpt or system")
            if not isinstance(turn.get("value"), str):
                raise Reject("unknown_format", f"turn {number + 1}: 'value' is not a string")
            self._add(role, turn["value"], turn, number, {}, marks=True)
        return self._finish()

    def _add(
        self, role: str, content: Any, origin: dict[str, Any], number: int, extra: dict[str, Any], *, marks: bool = False
    ) -> None:
        if isinstance(content, str):
            # A forgotten `images` key must not turn into silent text-only training, so a mark always counts.
            if IMAGE_MARK in content and (self._with_images or marks or self._listed):
                content = self._split_marks(content)
        elif isinstance(content, list):
            content = self._parts(content, number)
        else:
            raise Reject("unknown_format", f"message {number + 1}: content is neither a string nor a list")
        message = {"role": role, "content": content}
        if extra:
            message |= extra
            self._result.simple = False
        self._result.messages.append(message)
        self._result.loss.append(role == "assistant" and _is_trained(origin, number))

    def _split_marks(self, text: str) -> list[dict[str, Any]]:
        # The newline after a mark belongs to the mark: templates write their own.
        parts: list[dict[str, Any]] = []
        for index, piece in enumerate(_SPLIT_MARK.split(text)):
            if index:
                parts.append(IMAGE_PART)
                self._take_listed()
            if piece:
                parts.append({"type": "text", "text": piece})
        return parts

    def _parts(self, content: list[Any], number: int) -> list[dict[str, Any]] | str:
        parts: list[dict[str, Any]] = []
        for part in content:
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
                continue
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
                parts.append({"type": "text", "text": part["text"]})
            elif kind in ("image", "image_url", "input_image"):
                reference = next((part[k] for k in ("image_url", "image", "url", "path", "bytes") if part.get(k)), None)
                parts.append(IMAGE_PART)
                if reference is None:
                    self._take_listed()
                else:
                    self._num_placeholders += 1
                    self._result.images.append(image_reference(reference))
            else:
                raise Reject("unsupported_content", f"message {number + 1}: a part of type {kind!r}")
        if not any(part is IMAGE_PART for part in parts):
            # Many templates of text models only know strings.
            return "".join(part["text"] for part in parts)
        return parts

    def _take_listed(self) -> None:
        self._num_placeholders += 1
        if self._next_listed < len(self._listed):
            self._result.images.append(image_reference(self._listed[self._next_listed]))
        self._next_listed += 1

    def _finish(self) -> Conversation:
        num_images = self._num_placeholders - self._next_listed + len(self._listed)
        if self._next_listed != len(self._listed):
            raise Reject(
                "placeholder_count", f"{self._num_placeholders} image placeholders, but {num_images} images"
            )
        if self._result.images and not self._with_images:
            raise Reject("images_not_supported", f"{num_images} images, but the model folder is a text model")
        return self._result


def _is_trained(message: dict[str, Any], number: int) -> bool:
    for key in ("loss", "weight"):
        value = message.get(key)
        if value is None:
            continue
        if value not in (0, 1):
            raise Reject("unknown_format", f"message {number + 1}: '{key}' is {value!r}, not 0 or 1 (true or false)")
        if not value:
            return False
    return True
