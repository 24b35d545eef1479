"""Token ids and loss spans against the semantics of `transformers`' InternVL processor."""

import json

import numpy as np
import pytest
from prepare_samples import rejections, talk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gimbal import UserError
from gimbal.prepare.config import PrepareConfig
from gimbal.prepare.formats import parse_sample
from gimbal.prepare.model import load_model
from gimbal.prepare.template import ChatTemplate
from gimbal.prepare.tokens import Encoder

texts = st.text(st.one_of(st.sampled_from(list("ab \n\t?e\u0301é😀<>|i")), st.characters(exclude_categories=["Cs"])), max_size=12)
turn = st.tuples(st.lists(st.one_of(texts, st.integers(1, 13)), max_size=4), texts)


@pytest.fixture(scope="module")
def parts(models):
    model = load_model(PrepareConfig(str(models["tiled"]), [], ""))
    return model, ChatTemplate(model.tokenizer, model.end_markers), Encoder(model, 0)


def expanded(text, rows, images):
    """The rendered text with each placeholder written out, as the processor hands it to the tokenizer."""
    pieces = text.split(images.context_token)
    assert len(pieces) == len(rows) + 1
    result = pieces[0]
    for count, piece in zip(rows, pieces[1:]):
        result += "<img>" + images.context_token * (count * images.seq_length) + "</img>" + piece
    return result


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(turn, min_size=1, max_size=4))
def test_ids_and_spans_equal_textual_expansion(parts, turns):
    model, template, encoder = parts
    tokenizer, images = model.tokenizer, model.images
    messages, rows = [], []
    for question, answer in turns:
        content = []
        for part in question:
            if isinstance(part, int):
                rows.append(part)
                content.append({"type": "image", "image": "x"})
            else:
                content.append({"type": "text", "text": part})
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    (rendered,) = template.render([parse_sample({"messages": messages}, with_images=True)])
    (encoding,) = encoder.encode([rendered.text])
    result = encoder.conversation(encoding, rendered, rows)

    assert rendered.text == tokenizer.apply_chat_template(messages, tokenize=False)
    assert list(result.ids) == tokenizer(expanded(rendered.text, rows, images), add_special_tokens=False)["input_ids"]
    # Each span decodes to the answer and its end token. A token may join the newline of the prompt with those of the
    # answer, and the tokenizer normalizes accents, so the comparison is by tokens of the text up to the answer's end.
    assert len(result.spans) == len(turns)
    end_id = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for (begin, end), (_, answer), (start, stop) in zip(result.spans, turns, rendered.spans):
        assert rendered.text[start:stop] == answer + "<|im_end|>"
        assert result.ids[end - 1] == end_id
        used = rendered.text[:start].count(images.context_token)
        before = tokenizer(expanded(rendered.text[:start], rows[:used], images), add_special_tokens=False)["input_ids"]
        if not answer[:1].isspace() and not (answer[:1] and answer[0] in "\u0301"):
            if answer.isascii():
                assert begin == len(before)
                assert tokenizer.decode(result.ids[begin:end]) == answer + "<|im_end|>"


def test_ids_equal_those_of_the_internvl_processor(build, models, folder):
    from transformers import AutoTokenizer, InternVLProcessor
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    # The video processor needs torchvision, which pictures don't.
    class Processor(InternVLProcessor):
        def check_argument_for_proper_class(self, name, argument):
            return type(argument)

    for name in ("internvl", "tiled"):
        tokenizer = AutoTokenizer.from_pretrained(models[name])
        peer = Processor(GotOcr2ImageProcessorPil.from_pretrained(models[name]), tokenizer, None, image_seq_length=4)
        sample = talk("which one?", "the first", "a.png", "b.jpg", "c.webp")
        data = build([sample], model=name)
        pictures = [Image.open(folder / file) for file in ("a.png", "b.jpg", "c.webp")]
        result = peer(images=pictures, text=tokenizer.apply_chat_template(sample["messages"], tokenize=False))
        shown = data.sample(0)
        assert list(shown.tokens) == result["input_ids"][0]
        assert int(shown.record["vision_rows"]) == len(result["pixel_values"])


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_text_families(build, models, family):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models[family])
    shown = build([talk("one?", "two")], model=family).sample(0)
    expected = tokenizer.apply_chat_template(talk("one?", "two")["messages"], tokenize=True, return_dict=True)["input_ids"]
    assert list(shown.tokens) == expected
    assert [tokenizer.decode(shown.tokens[b:e]) for b, e in shown.spans] == ["two<|im_end|>"]


def test_plain_text_ends_with_the_end_token_and_skips_token_zero(build):
    shown = build([{"text": "Hello world"}]).sample(0)
    assert shown.spans == [(1, len(shown.tokens))]
    assert shown.tokens[-1] == 2 and list(shown.tokens).count(2) == 1


def test_plain_text_keeps_its_own_end_token(build):
    shown = build([{"text": "Hello<|im_end|>"}]).sample(0)
    assert list(shown.tokens).count(2) == 1


def test_image_in_an_answer_splits_the_span(build):
    sample = talk()
    sample["messages"][1]["content"] = [{"type": "text", "text": "see"}, {"type": "image", "image": "c.webp"}, {"type": "text", "text": "ok"}]
    shown = build([sample]).sample(0)
    assert len(shown.spans) == 2
    trained = np.concatenate([shown.tokens[b:e] for b, e in shown.spans])
    assert not set(trained) & {3, 4, 5}


def test_too_long_sample_is_rejected_and_the_limit_itself_is_not(build):
    length = len(build([talk("q", "a", "a.png")]).sample(0).tokens)
    assert len(build([talk("q", "a", "a.png")], max_tokens=length)) == 1
    data = build([talk("q", "a", "a.png")], max_tokens=length - 1)
    assert rejections(data) == [("too_long", f"{length} tokens > {length - 1}")]


def test_placeholder_written_as_text_is_a_wrong_count(build):
    data = build([talk("a <IMG_CONTEXT> b", "x"), {"text": "a <IMG_CONTEXT>"}])
    assert rejections(data) == [
        ("placeholder_count", "1 image placeholders in the rendered text, but 0 images"),
        ("placeholder_count", "1 image placeholders in a `text` sample, but 0 images"),
    ]


def test_tokenizer_that_eats_space_around_placeholders_is_refused(tmp_path):
    from prepare_samples import CORPUS

    from gimbal.demo.model_folder import make_model_folder

    # The generic tokenizer class of a Llama backbone takes such flags from the files.
    broken = make_model_folder(tmp_path / "broken", corpus=CORPUS, text_family="llama")
    content = json.loads((broken / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["lstrip"] = token["content"] == "<img>"
    (broken / "tokenizer.json").write_text(json.dumps(content))
    config = json.loads((broken / "tokenizer_config.json").read_text())
    for token in config["added_tokens_decoder"].values():
        token["lstrip"] = token["content"] == "<img>"
    (broken / "tokenizer_config.json").write_text(json.dumps(config))
    model = load_model(PrepareConfig(str(broken), [], ""))
    with pytest.raises(UserError, match="apart from the text"):
        Encoder(model, 0)
