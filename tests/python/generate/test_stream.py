import random

from gimbal.decoder import TokenDecoder
from gimbal.generate.stream import StreamDecoder
from hypothesis import given, settings
from hypothesis import strategies as st


def decode_bytes(ids):
    return bytes(ids).decode("utf-8", errors="replace")


def pieces_of(data):
    stream = StreamDecoder(decode_bytes)
    return [stream.push(byte) for byte in data], stream.finish()


def test_a_character_of_several_tokens_comes_whole():
    pieces, rest = pieces_of("aé€🙂b".encode())
    assert pieces == ["a", "", "é", "", "", "€", "", "", "", "🙂", "b"] and rest == ""


def test_bytes_that_never_become_a_character_are_shown_at_the_end():
    pieces, rest = pieces_of(b"ok\xf0\x9f")
    assert "".join(pieces) == "ok" and rest == "\ufffd"


@settings(deadline=None)
@given(st.text())
def test_pieces_join_to_the_text(text):
    pieces, rest = pieces_of(text.encode())
    assert "".join(pieces) + rest == text


def test_pieces_of_a_real_tokenizer_join_to_its_text(model):
    decoder = TokenDecoder(model)
    ids = decoder._tokenizer.encode("It is seven — 七, 🙂🙃!\n  Which?", add_special_tokens=False).ids
    stream = StreamDecoder(decoder.decode)
    assert "".join(stream.push(token) for token in ids) + stream.finish() == "It is seven — 七, 🙂🙃!\n  Which?"
    # Special tokens show nothing.
    assert all(StreamDecoder(decoder.decode).push(token) == "" for token in decoder.special)


def test_a_leading_space_that_a_decoder_strips_is_not_lost():
    # Like SentencePiece decoders: a word has its space only when it is not the first.
    words = {0: "▁two", 1: "▁words", 2: "s"}

    def decode(ids):
        return "".join(words[i] for i in ids).replace("▁", " ").removeprefix(" ")

    rng = random.Random(1)
    ids = [rng.randrange(3) for _ in range(50)]
    stream = StreamDecoder(decode)
    assert "".join(stream.push(i) for i in ids) + stream.finish() == decode(ids)
