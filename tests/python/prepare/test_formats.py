"""Recognition of conversation formats."""

import pytest

from gimbal.prepare.formats import Conversation, PlainText, parse_sample
from gimbal.prepare.reject import Reject

IMAGE = {"type": "image"}


def text(value):
    return {"type": "text", "text": value}


def parse(sample, with_images=True):
    return parse_sample(sample, with_images=with_images)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "image", "image": "a.png"},
        {"type": "image", "url": "a.png"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "image": {"path": "a.png", "bytes": None}},
        {"type": "image", "image": "a.png", "text": None},
    ],
)
def test_each_kind_of_image_part_gives_its_path(part):
    result = parse({"messages": [{"role": "user", "content": [part, text("hi")]}, {"role": "assistant", "content": "yes"}]})
    assert result.images == ["a.png"]
    assert result.messages[0]["content"] == [IMAGE, text("hi")]
    assert result.loss == [False, True]


def test_image_parts_refer_to_listed_images_in_order():
    sample = {
        "messages": [
            {"role": "user", "content": [IMAGE, {"type": "image", "image": "own.png"}, text("x"), IMAGE]},
            {"role": "assistant", "content": "y"},
        ],
        "images": ["1.png", {"bytes": b"abc", "path": "2.png"}],
    }
    assert parse(sample).images == ["1.png", "own.png", b"abc"]


def test_marks_in_strings_become_parts():
    sample = {"messages": [{"role": "user", "content": "see <image>\nand <image> end"}, {"role": "assistant", "content": "y"}],
              "images": ["1.png", "2.png"]}
    assert parse(sample).messages[0]["content"] == [text("see "), IMAGE, text("and "), IMAGE, text(" end")]


@pytest.mark.parametrize("image", ["a.png", ["a.png"]])
def test_llava_conversation(image):
    sample = {"conversations": [{"from": "human", "value": "<image>\nhi"}, {"from": "gpt", "value": "yes"}], "image": image, "system": "be"}
    result = parse(sample)
    assert [m["role"] for m in result.messages] == ["system", "user", "assistant"]
    assert result.messages[1]["content"] == [IMAGE, text("hi")]
    assert result.images == ["a.png"]


def test_text_parts_are_joined():
    result = parse({"messages": [{"role": "user", "content": [text("a"), text("b")]}, {"role": "assistant", "content": "y"}]})
    assert result.messages[0]["content"] == "ab"


def test_plain_text():
    assert parse({"text": "abc"}) == PlainText("abc")


@pytest.mark.parametrize("off", [{"loss": False}, {"weight": 0}])
def test_loss_can_be_switched_off_by_message(off):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", **off}, {"role": "assistant", "content": "c"}]
    assert parse({"messages": turns}).loss == [False, False, True]


def test_mark_is_text_for_a_text_model():
    result = parse({"messages": [{"role": "user", "content": "an <image> tag"}, {"role": "assistant", "content": "y"}]}, with_images=False)
    assert result.messages[0]["content"] == "an <image> tag"


def test_extra_keys_reach_the_template():
    sample = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{"x": 1}]}], "tools": [{"n": 1}]}
    result = parse(sample)
    assert isinstance(result, Conversation) and not result.simple
    assert result.messages[1] == {"role": "assistant", "content": "", "tool_calls": [{"x": 1}]}
    assert result.tools == [{"n": 1}]


@pytest.mark.parametrize(
    "sample, reason, words",
    [
        ([1], "invalid_json", "list"),
        ({"a": 1}, "unknown_format", "keys: a"),
        ({"text": 3}, "unknown_format", "string"),
        ({"text": "x", "images": ["a"]}, "unknown_format", "messages"),
        ({"messages": []}, "unknown_format", "list of messages"),
        ({"messages": [{"content": "x"}]}, "unknown_format", "role"),
        ({"messages": [{"role": "user"}]}, "unknown_format", "message 1"),
        ({"messages": [{"role": "user", "content": 3}]}, "unknown_format", "message 1"),
        ({"messages": [{"role": "user", "content": "a"}], "tools": 3}, "unknown_format", "tools"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}, "unknown_format", "0.5"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "image": 3}]}]}, "unknown_format", "3"),
        ({"messages": [{"role": "user", "content": [{"type": "video", "video": "v"}]}]}, "unsupported_content", "video"),
        ({"conversations": []}, "unknown_format", "list of turns"),
        ({"conversations": [3]}, "unknown_format", "turn 1"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "unknown_format", "alien"),
        ({"conversations": [{"from": "human", "value": 3}]}, "unknown_format", "value"),
        ({"conversations": [{"from": "human", "value": "<image>"}]}, "placeholder_count", "1 image placeholders, but 0 images"),
        ({"messages": [{"role": "user", "content": "<image>"}]}, "placeholder_count", "1 image placeholders, but 0 images"),
        ({"messages": [{"role": "user", "content": "x"}], "images": ["a", "b"]}, "placeholder_count", "0 image placeholders, but 2 images"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}] * 3}], "images": ["a"]}, "placeholder_count", "3 image placeholders, but 1 images"),
    ],
)  # fmt: skip
def test_rejection(sample, reason, words):
    with pytest.raises(Reject) as caught:
        parse(sample)
    assert caught.value.reason == reason
    assert words in caught.value.detail


def test_text_model_takes_no_images():
    with pytest.raises(Reject) as caught:
        parse({"messages": [{"role": "user", "content": "<image>"}], "images": ["a.png"]}, with_images=False)
    assert caught.value.reason == "images_not_supported"
