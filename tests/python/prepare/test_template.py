"""Assistant turns found in the text of many kinds of chat templates."""

import pytest

from gimbal.prepare.formats import parse_sample
from gimbal.prepare.model import load_tokenizer
from gimbal.prepare.reject import Reject
from gimbal.prepare.template import ChatTemplate

LOOP = "{%- for m in messages -%}"
PROMPT = "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
CHATML = LOOP + "{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' -}}{%- endfor -%}" + PROMPT
TRIMMED = LOOP + "{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] | trim + '<|im_end|>\\n' -}}{%- endfor -%}" + PROMPT
# A system message of its own if none is given, as the Qwen2.5 folders have.
DEFAULT_SYSTEM = "{%- if messages[0]['role'] != 'system' -%}{{- '<|im_start|>system\\nBe kind.<|im_end|>\\n' -}}{%- endif -%}" + CHATML
# An empty thought before the answer, only after the last question, as the Qwen3 folders have.
THINKING = (
    "{%- set ns = namespace(last=0) -%}{%- for m in messages -%}{%- if m['role'] == 'user' -%}{%- set ns.last = loop.index0 -%}"
    "{%- endif -%}{%- endfor -%}" + LOOP + "{{- '<|im_start|>' + m['role'] + '\\n' -}}"
    "{%- if m['role'] == 'assistant' and loop.index0 > ns.last -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
    "{%- if m['role'] == 'assistant' and '</think>' in m['content'] -%}{{- m['content'].split('</think>')[-1] -}}"
    "{%- else -%}{{- m['content'] -}}{%- endif -%}{{- '<|im_end|>\\n' -}}{%- endfor -%}" + PROMPT
)
# The prompt opens a thought that the conversation does not have.
OPEN_THOUGHT = CHATML.replace("assistant\\n' -}}{%- endif", "assistant\\n<think>\\n' -}}{%- endif")
MARKED = (
    LOOP + "{{- '<|im_start|>' + m['role'] + '\\n' -}}{%- if m['role'] == 'assistant' -%}{% generation %}{{- m['content'] + '<|im_end|>' -}}"
    "{% endgeneration %}{%- else -%}{{- m['content'] + '<|im_end|>' -}}{%- endif -%}{{- '\\n' -}}{%- endfor -%}" + PROMPT
)
# System text goes into the first question; no turn markers of the ChatML kind.
INST = (
    "{%- set ns = namespace(system='') -%}" + LOOP +
    "{%- if m['role'] == 'system' -%}{%- set ns.system = m['content'] + '\\n' -%}"
    "{%- elif m['role'] == 'user' -%}{{- '[INST] ' + ns.system + m['content'] + ' [/INST]' -}}{%- set ns.system = '' -%}"
    "{%- else -%}{{- ' ' + m['content'] + ' <|im_end|>' -}}{%- endif -%}{%- endfor -%}"
)
LISTS_ONLY = (
    LOOP + "{{- '<|im_start|>' + m['role'] + '\\n' -}}{%- for part in m['content'] -%}{{- part['text'] -}}{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}{%- endfor -%}" + PROMPT
)

TALK = [("system", "You help."), ("user", "one?"), ("assistant", "two"), ("user", "and?"), ("assistant", "three, four")]


@pytest.fixture(scope="module")
def tokenizer(models):
    return load_tokenizer(models["qwen2"])


def make(tokenizer, template):
    tokenizer.chat_template = template
    return ChatTemplate(tokenizer, ["<|im_end|>", "<|endoftext|>"])


def conversation(turns, **last):
    messages = [{"role": role, "content": content} for role, content in turns]
    messages[-1] |= last
    return parse_sample({"messages": messages}, with_images=False)


def turns_of(template, talk, **last):
    (result,) = template.render([conversation(talk, **last)])
    if isinstance(result, Reject):
        raise result
    return [result.text[begin:end] for begin, end in result.spans]


@pytest.mark.parametrize(
    "source, expected",
    [
        (CHATML, ["two<|im_end|>", "three, four<|im_end|>"]),
        (TRIMMED, ["two<|im_end|>", "three, four<|im_end|>"]),
        (DEFAULT_SYSTEM, ["two<|im_end|>", "three, four<|im_end|>"]),
        (THINKING, ["two<|im_end|>", "<think>\n\n</think>\n\nthree, four<|im_end|>"]),
        (OPEN_THOUGHT, ["two<|im_end|>", "three, four<|im_end|>"]),
        (MARKED, ["two<|im_end|>", "three, four<|im_end|>"]),
        (INST, [" two <|im_end|>", " three, four <|im_end|>"]),
        (LISTS_ONLY, ["two<|im_end|>", "three, four<|im_end|>"]),
    ],
    ids=["chatml", "trimmed", "default_system", "thinking", "open_thought", "marked", "inst", "lists_only"],
)
def test_turns(tokenizer, source, expected):
    template = make(tokenizer, source)
    assert turns_of(template, TALK) == expected
    assert turns_of(template, TALK[1:]) == expected
    assert turns_of(template, TALK, loss=False) == expected[:1]
    assert template.num_searched == 0


def test_trimmed_contents_are_still_matched_exactly(tokenizer):
    template = make(tokenizer, TRIMMED)
    assert turns_of(template, [("user", " a "), ("assistant", "  b\n")]) == ["b<|im_end|>"]
    assert template.num_exact == 1


def test_edited_content_is_found_by_its_prefix(tokenizer):
    template = make(tokenizer, THINKING)
    talk = [("user", "a"), ("assistant", "<think>x</think>b"), ("user", "c"), ("assistant", "<think>y</think>d")]
    assert turns_of(template, talk) == ["b<|im_end|>", "<think>\n\n</think>\n\nd<|im_end|>"]
    assert template.num_searched == 1


def test_contents_that_look_like_sentinels_or_markers(tokenizer):
    template = make(tokenizer, CHATML)
    talk = [("user", "Zq1qZ"), ("assistant", "Zq0qZ<|im_end|>more")]
    assert turns_of(template, talk) == ["Zq0qZ<|im_end|>more<|im_end|>"]


def test_repeated_contents_are_told_apart(tokenizer):
    template = make(tokenizer, CHATML)
    (result,) = template.render([conversation([("user", "yes"), ("assistant", "yes"), ("user", "yes"), ("assistant", "yes")])])
    first, second = result.spans
    assert result.text[: first[0]].endswith("assistant\n") and result.text[: second[0]].endswith("assistant\n")
    assert first[1] < second[0]


def test_conversation_that_starts_with_the_assistant(tokenizer):
    template = make(tokenizer, CHATML)
    assert turns_of(template, [("assistant", "hello"), ("user", "a"), ("assistant", "b")]) == ["hello<|im_end|>", "b<|im_end|>"]
    assert turns_of(make(tokenizer, DEFAULT_SYSTEM), [("assistant", "hello")]) == ["hello<|im_end|>"]


def test_tool_calls_are_rendered_and_trained_on(tokenizer):
    source = CHATML.replace("m['content'] + '<|im_end|>", "m['content'] + (m.tool_calls | tojson if m.tool_calls else '') + '<|im_end|>")
    template = make(tokenizer, source)
    turns = turns_of(template, [("user", "a"), ("assistant", "b")], tool_calls=[{"name": "f"}])
    assert turns == ['b[{"name": "f"}]<|im_end|>']


@pytest.mark.parametrize(
    "source, words",
    [
        (CHATML.replace("<|im_end|>", "END"), "can't be located"),
        ("{{- raise_exception('no such role') -}}", "no such role"),
        ("[{{- messages | length -}}]{%- if add_generation_prompt -%}A{%- endif -%}", "prefix"),
        (INST.replace("' ' + m['content']", "raise_exception('only questions')"), "only questions"),
        (None, "no chat template"),
    ],
    ids=["no_end", "raises", "not_prefix", "raises_late", "none"],
)
def test_rejections_say_why(tokenizer, source, words):
    with pytest.raises(Reject) as caught:
        turns_of(make(tokenizer, source), TALK)
    assert caught.value.reason == "template"
    assert words in caught.value.detail


def test_edited_content_with_a_marker_is_rejected(tokenizer):
    with pytest.raises(Reject, match="end-of-turn"):
        turns_of(make(tokenizer, THINKING), [("user", "a"), ("assistant", "<think>x<|im_end|></think>b")])


def test_marked_template_that_marks_other_turns_needs_all_losses(tokenizer):
    source = MARKED.replace("== 'assistant'", "== 'user'")
    assert turns_of(make(tokenizer, source), TALK[1:]) == ["one?<|im_end|>", "and?<|im_end|>"]
    with pytest.raises(Reject, match="generation marks"):
        turns_of(make(tokenizer, source), TALK[1:] + [("assistant", "five")], loss=False)


def test_one_bad_conversation_does_not_spoil_the_others(tokenizer):
    source = "{%- if messages[0]['content'] == 'bad' -%}{{- raise_exception('bad') -}}{%- endif -%}" + CHATML
    results = make(tokenizer, source).render([conversation(TALK), conversation([("user", "bad"), ("assistant", "x")]), conversation(TALK)])
    assert [isinstance(result, Reject) for result in results] == [False, True, False]
