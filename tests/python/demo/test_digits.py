import json
import random
from collections import Counter

import pytest
from gimbal.demo import digits, digits_data
from gimbal.demo.digits_data import Scan


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    return folder, digits.make_data(folder)


def conversations(path):
    return [json.loads(line) for line in path.open()]


def pictures(sample):
    return [part["image"] for message in sample["messages"] if isinstance(message["content"], list)
            for part in message["content"] if part["type"] == "image"]


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_data_is_the_same_each_time(data, tmp_path):
    digits.make_data(tmp_path)
    assert content(tmp_path) == content(data[0])


def test_held_out_scans_are_in_no_training_conversation(data):
    training = {picture for sample in conversations(data[1]["train"]) for picture in pictures(sample)}
    asked = [picture for sample in conversations(data[1]["held_out"]) for picture in pictures(sample)]
    assert len(asked) == len(set(asked)) == 360 and len(training) == 1437
    assert not training & set(asked)


def test_pictures_differ_in_format_and_size(data):
    from PIL import Image

    files = sorted((data[0] / "pictures").iterdir())
    assert len(files) == 1797
    sizes, formats = set(), Counter()
    for path in files:
        with Image.open(path) as image:
            assert 16 <= min(image.size) and max(image.size) <= 64
            sizes.add(image.size)
            formats[image.format] += 1
    assert len(sizes) > 300 and set(formats) == {"JPEG", "PNG"} and min(formats.values()) > 700


def test_conversations_have_1_to_12_pictures_each_with_its_answer(data):
    from sklearn.datasets import load_digits

    targets = load_digits().target
    counts = Counter()
    for sample in conversations(data[1]["train"]) + conversations(data[1]["held_out"]):
        counts[len(pictures(sample))] += 1
        for question, reply in zip(sample["messages"][::2], sample["messages"][1::2]):
            assert (question["role"], reply["role"]) == ("user", "assistant")
            if isinstance(question["content"], str):
                continue
            digit = int(targets[int(question["content"][0]["image"].split("/")[1].split(".")[0])])
            spelled = dict(digits_data.QUESTIONS)[question["content"][1]["text"]]
            assert reply["content"] == (digits_data.WORDS[digit] if spelled else str(digit))
    assert set(counts) == set(range(13)) and counts[0] > 100


def test_text_turns_are_answered_by_their_own_text():
    lengths = []
    for seed in range(300):
        question, reply = digits_data.text_turn(random.Random(seed))
        lengths.append(len(question))
        if question.startswith("Count"):
            begin, end = (int(word.rstrip(".")) for word in question.split()[2::2])
            assert [int(word) for word in reply.rstrip(".").split(", ")] == list(range(begin, end + 1))
        else:
            assert reply.removeprefix("At ").rstrip(".") in question.split(". ")[-2]
    assert max(lengths) > 20 * min(lengths)


def test_each_scan_is_shown_equally_often():
    scans = [Scan(number, number % 10, f"{number}.png") for number in range(50)]
    shown = Counter(p for sample in digits_data.training_conversations(scans, 200) for p in pictures(sample))
    assert len(shown) == 50 and max(shown.values()) - min(shown.values()) <= 1
