"""Renders conversations with a chat template and finds the assistant's turns in the text.

For a template without `{% generation %}` marks, the literal text around the contents is learned once per *shape*
(roles and kinds of parts) from a rendering with sentinels in place of the contents. A conversation of that shape must then
equal literals + contents, character by character, which proves where its turns lie. Where it doesn't (a
template that edits contents), the turns are located in the rendering itself, prefix by prefix.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gimbal.prepare.formats import Conversation
from gimbal.prepare.pieces import sentinel, strings_to_parts, text_pieces, with_sentinels
from gimbal.prepare.reject import Reject

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
_MAX_SKELETONS = 4096


@dataclass(slots=True)
class Rendered:
    """A text and the character range [begin, end) of each trained assistant turn."""

    text: str
    spans: list[tuple[int, int]]


@dataclass(slots=True)
class _Skeleton:
    """Literals around the text pieces of a shape. `order[i]` is the piece after `literals[i]`.

    A turn is (message, literal, offset, literal, offset): begin and end as positions in literals.
    """

    literals: list[str]
    order: list[int]
    turns: list[tuple[int, int, int, int, int]]


class ChatTemplate:
    """The chat template of a tokenizer. Not safe for threads."""

    def __init__(self, tokenizer, end_markers: list[str]) -> None:
        """`end_markers`: texts of the tokens that end a turn."""
        self._tokenizer = tokenizer
        self._markers = end_markers
        self._skeletons: OrderedDict[tuple, _Skeleton | Reject] = OrderedDict()
        self.source = self._source()
        self._marked = bool(self.source and _GENERATION.search(self.source))
        self._strings = self._accepts("text") or not self._accepts([{"type": "text", "text": "text"}])
        self.num_exact = 0
        self.num_searched = 0

    def render(self, conversations: list[Conversation]) -> list[Rendered | Reject]:
        """One result per conversation; a conversation that can't be used gives its Reject."""
        if self.source is None:
            reject = Reject("template", "the model folder has no chat template; add chat_template.jinja or use `text` samples")
            return [reject] * len(conversations)
        for conversation in conversations:
            if not self._strings:
                strings_to_parts(conversation.messages)
        texts = self._texts(conversations)
        return [self._locate(c, text) for c, text in zip(conversations, texts)]

    def _source(self) -> str | None:
        template = getattr(self._tokenizer, "chat_template", None)
        if isinstance(template, dict):
            template = template.get("default")
        return template

    def _accepts(self, content: Any) -> bool:
        if self.source is None:
            return True
        probe = "Zq0probe0qZ"
        if isinstance(content, list):
            content = [{"type": "text", "text": probe}]
        else:
            content = probe
        try:
            return self._apply([{"role": "user", "content": content}]).count(probe) == 1
        except Exception:
            # Whatever a template raises here, it doesn't take this form.
            return False

    def _apply(self, messages: list[dict[str, Any]], tools=None, prompt: bool = False) -> str:
        return self._tokenizer.apply_chat_template(
            messages, tools=tools, tokenize=False, add_generation_prompt=prompt
        )

    def _texts(self, conversations: list[Conversation]) -> list[str | Reject | Rendered]:
        if self._marked:
            return [self._one(conversation) for conversation in conversations]
        if all(conversation.tools is None for conversation in conversations):
            try:
                return self._tokenizer.apply_chat_template(
                    [conversation.messages for conversation in conversations], tokenize=False
                )
            except Exception:
                # One conversation spoils the batch: find out which, and why.
                pass
        return [self._one(conversation) for conversation in conversations]

    def _one(self, conversation: Conversation) -> str | Rendered | Reject:
        try:
            if self._marked:
                return self._marked_render(conversation)
            return self._apply(conversation.messages, conversation.tools)
        except Reject as reject:
            return reject
        except Exception as error:
            # Templates raise what they like (jinja2 errors, type errors); all mean "not these messages".
            return Reject("template", f"{type(error).__name__}: {error}")

    def _marked_render(self, conversation: Conversation) -> Rendered:
        from transformers.utils.chat_template_utils import render_jinja_template

        messages = [{k: v for k, v in m.items() if v is not None} for m in conversation.messages]
        (text,), (found,) = render_jinja_template(
            [messages],
            tools=conversation.tools,
            chat_template=self.source,
            return_assistant_tokens_mask=True,
            **self._tokenizer.special_tokens_map,
        )
        turns = [loss for message, loss in zip(messages, conversation.loss) if message["role"] == "assistant"]
        if len(found) == len(turns):
            found = [span for span, loss in zip(found, turns) if loss]
        elif not all(turns):
            raise Reject("template", f"{len(found)} generation marks for {len(turns)} assistant turns, some switched off")
        return Rendered(text, [tuple(span) for span in found])

    def _locate(self, conversation: Conversation, text: str | Rendered | Reject) -> Rendered | Reject:
        if not isinstance(text, str):
            return text
        try:
            if conversation.simple:
                spans = self._exact(conversation, text)
                if spans is not None:
                    self.num_exact += 1
                    return Rendered(text, spans)
            self.num_searched += 1
            return Rendered(text, self._search(conversation, text))
        except Reject as reject:
            return reject

    def _exact(self, conversation: Conversation, text: str) -> list[tuple[int, int]] | None:
        skeleton = self._skeleton(conversation.messages)
        if isinstance(skeleton, Reject):
            return None
        pieces = text_pieces(conversation.messages)
        for edit in (None, str.strip):
            if edit is not None:
                pieces = [edit(piece) for piece in pieces]
            parts = [skeleton.literals[0]]
            for literal, index in zip(skeleton.literals[1:], skeleton.order):
                parts += (pieces[index], literal)
            if "".join(parts) == text:
                begins = [0, *accumulate(map(len, parts))]
                # Literal i is part 2 i.
                return [
                    (begins[2 * first] + first_offset, begins[2 * last] + last_offset)
                    for message, first, first_offset, last, last_offset in skeleton.turns
                    if conversation.loss[message]
                ]
        return None

    def _skeleton(self, messages: list[dict[str, Any]]) -> _Skeleton | Reject:
        shape = tuple(
            (m["role"], None if isinstance(m["content"], str) else tuple(p["type"] for p in m["content"]))
            for m in messages
        )
        found = self._skeletons.get(shape)
        if found is None:
            try:
                found = self._learn(messages)
            except Reject as reject:
                found = reject
            except Exception as error:
                found = Reject("template", f"{type(error).__name__}: {error}")
            self._skeletons[shape] = found
            if len(self._skeletons) > _MAX_SKELETONS:
                self._skeletons.popitem(last=False)
        return found

    def _learn(self, messages: list[dict[str, Any]]) -> _Skeleton:
        messages, owners = with_sentinels(messages)
        sentinels = [sentinel(index) for index in range(len(owners))]
        text = self._apply(messages)
        places = []
        for index, mark in enumerate(sentinels):
            if text.count(mark) != 1:
                raise Reject("template", f"a content appears {text.count(mark)} times in the rendered text")
            places.append((text.index(mark), index))
        places.sort()
        ends = [place + len(sentinels[index]) for place, index in places]
        starts = [place for place, _ in places]
        literals = [text[b:e] for b, e in zip([0, *ends], [*starts, len(text)])]
        slots = {index: slot for slot, (_, index) in enumerate(places)}
        turns = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            own = [slots[index] for index, owner in enumerate(owners) if owner == number]
            if not own or own != list(range(own[0], own[-1] + 1)):
                raise Reject("template", "the parts of an assistant turn are not rendered together")
            literal_begin = ends[own[0] - 1] if own[0] else 0
            begin = self._begin(messages, number, text, starts[own[0]])
            if not literal_begin <= begin <= starts[own[0]]:
                raise Reject("template", "an assistant turn does not begin right before its content")
            length = self._marker_end(literals[own[-1] + 1])
            if length is None:
                raise Reject("template", "no end-of-turn token after an assistant turn")
            turns.append((number, own[0], begin - literal_begin, own[-1] + 1, length))
        return _Skeleton(literals, [index for _, index in places], turns)

    def _begin(self, messages: list[dict[str, Any]], number: int, text: str, content: int | None, tools=None) -> int:
        """Where turn `number` begins: the length of the prompt that the model sees before it.

        The prompt must be a prefix of the text. One exception: a prompt that goes on (an opened thought) where the text has
        the content, which is only known when the content's place is.
        """
        if number == 0:
            return self._begin_of_first(text, content)
        prompt = self._apply(messages[:number], tools, prompt=True)
        if text.startswith(prompt):
            return len(prompt)
        common = next((i for i, (a, b) in enumerate(zip(prompt, text)) if a != b), min(len(prompt), len(text)))
        if content is not None and common == content:
            return content
        raise Reject("template", f"the prompt of message {number + 1} is not a prefix of the whole conversation")

    def _begin_of_first(self, text: str, content: int | None) -> int:
        # Templates don't render empty conversations, so the prompt is what it adds to some other one.
        probe = [{"role": "user", "content": "x" if self._strings else [{"type": "text", "text": "x"}]}]
        without, prompt = self._apply(probe), self._apply(probe, prompt=True)
        place = text.find(prompt.removeprefix(without)) if prompt.startswith(without) and prompt != without else -1
        begin = place + len(prompt) - len(without)
        if place < 0 or (content is not None and begin > content):
            raise Reject("template", "the assistant's turn at the start of the conversation can't be located")
        return begin

    def _marker_end(self, literal: str) -> int | None:
        found = [(literal.find(m), m) for m in self._markers if m in literal]
        if not found:
            return None
        # Of markers at the same place the longest is the token.
        place, marker = min(found, key=lambda item: (item[0], -len(item[1])))
        return place + len(marker)

    def _search(self, conversation: Conversation, text: str) -> list[tuple[int, int]]:
        messages, tools = conversation.messages, conversation.tools
        if any(marker in piece for piece in text_pieces(messages) for marker in self._markers):
            raise Reject("template", "a message holds the text of the end-of-turn token")
        spans, last = [], 0
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            try:
                begin = self._begin(messages, number, text, None, tools)
            except Reject:
                raise
            except Exception as error:
                raise Reject("template", f"{type(error).__name__}: {error}") from error
            length = self._marker_end(text[begin:])
            if begin < last or length is None:
                raise Reject("template", f"the end of message {number + 1} can't be located")
            last = begin + length
            if conversation.loss[number]:
                spans.append((begin, last))
        return spans
