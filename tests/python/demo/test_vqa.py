import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from gimbal.demo import vqa, vqa_data
from gimbal.demo.vqa_data import Question, derive_facts


ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqa")
    return folder, vqa.make_data(folder)


def samples(path):
    return [json.loads(line) for line in path.open()]


def test_data_is_the_same_each_time(data, tmp_path):
    again = vqa.make_data(tmp_path)
    for name, path in data[1].items():
        if path.is_file():
            assert path.read_bytes() == again[name].read_bytes(), name
    assert (data[1]["model"] / "tokenizer.json").read_bytes() == (again["model"] / "tokenizer.json").read_bytes()


def test_every_test_question_is_asked_once_and_alone(data):
    asked = samples(data[1]["test"])
    assert len(asked) == 9673 and all(len(sample["messages"]) == 2 for sample in asked)
    first = asked[0]["messages"]
    question = vqa_data.load_questions("test")[0]
    assert first[0]["content"] == [{"type": "image", "image": f"pictures/test/{question.picture}.png"}, {"type": "text", "text": question.text}]
    assert first[1]["content"] == question.answer


def pictures(path):
    return {sample["messages"][0]["content"][0]["image"] for sample in samples(path)}


def test_training_never_sees_a_picture_of_validation_or_test(data):
    seen = pictures(data[1]["captions"]) | pictures(data[1]["questions"])
    held_out = pictures(data[1]["validation"])
    assert len(held_out) == vqa.VALIDATION_PICTURES and all(name.startswith("pictures/train/") for name in held_out)
    assert not held_out & seen and not {name.replace("/train/", "/mirrored/") for name in held_out} & seen
    assert {name.split("/")[1] for name in seen} == {"train", "mirrored"}
    assert pictures(data[1]["test"]) <= {f"pictures/test/{number}.png" for number in range(1000)}


def test_text_stages_have_no_pictures(data):
    for stage in ("words", "phrasings"):
        assert all(isinstance(message["content"], str) for sample in samples(data[1][stage]) for message in sample["messages"])


def test_pictures_are_copied_and_mirrored(data):
    import numpy
    from PIL import Image

    folder = data[0] / "pictures"
    assert {part.name: len(list(part.iterdir())) for part in folder.iterdir()} == {"train": 4000, "mirrored": 4000, "test": 1000}
    plain, mirrored = (numpy.asarray(Image.open(folder / part / "0.png").convert("RGB")) for part in ("train", "mirrored"))
    assert (plain[:, ::-1] == mirrored).all() and (plain != mirrored).any()


def test_recipe_has_the_demo_s_stages_and_keeps_the_test_questions_out():
    recipe = yaml.safe_load((ROOT / vqa.RECIPE).read_text())
    assert tuple(stage["name"] for stage in recipe["stages"]) == vqa.STAGES
    assert recipe["train"]["run"] == str(vqa.RUN) and recipe["model"]["path"] == str(vqa.DATA / "model")
    for stage in recipe["stages"]:
        assert stage["data"].get("train", recipe["data"]["train"]) == str(vqa.DATA / stage["name"])
        assert stage["data"].get("eval", str(vqa.DATA / "validation")) == str(vqa.DATA / "validation")
    assert recipe["stages"][-1]["data"]["eval"] == str(vqa.DATA / "validation")


def test_held_out_pictures_are_the_same_each_time_and_keep_all_questions():
    questions = vqa_data.load_questions("train")
    training, validation = vqa_data.hold_out(questions, 400, seed=1)
    assert vqa_data.hold_out(questions, 400, seed=1) == (training, validation)
    assert Counter(training) + Counter(validation) == Counter(questions)
    assert len({question.picture for question in validation}) == 400
    assert not {question.picture for question in validation} & {question.picture for question in training}


@pytest.mark.parametrize(
    ("questions", "shape", "color"),
    [
        ([("what color is the rectangle?", "blue")], "rectangle", "blue"),
        ([("is there a circle?", "yes")], "circle", None),
        ([("is there a circle?", "no")], None, None),
        ([("is there not a circle?", "no")], "circle", None),
        ([("is no teal shape present?", "no")], None, "teal"),
        ([("is there a circle?", "no"), ("is there not a rectangle?", "yes")], "triangle", None),
        ([(f"is there a {color} shape?", "no") for color in vqa_data.COLORS[1:]], None, "black"),
    ],
)
def test_facts_are_read_out_of_questions(questions, shape, color):
    facts = derive_facts(Question(text, answer, 7) for text, answer in questions)
    assert facts.shape.get(7) == shape and facts.color.get(7) == color


def test_facts_never_contradict_a_question():
    questions = vqa_data.load_questions("train")
    facts = derive_facts(questions)
    assert len(facts.shape) > 3800 and len(facts.color) > 3600
    for question in questions:
        if question.is_open:
            known = facts.shape if question.answer in vqa_data.SHAPES else facts.color
            assert known[question.picture] == question.answer
            continue
        for word in question.words:
            known = facts.shape if word in vqa_data.SHAPES else facts.color if word in vqa_data.COLORS else {}
            if question.picture in known:
                assert ((known[question.picture] == word) != question.is_negative) == (question.answer == "yes")


def test_derived_questions_are_right_and_balanced():
    facts = derive_facts(vqa_data.load_questions("train"))
    answers = Counter()
    for picture, text, answer in vqa_data.derived_questions(facts, seed=5, negated=True):
        question = Question(text, answer, picture)
        if question.is_open:
            assert answer in (facts.shape[picture], facts.color[picture])
            continue
        word = next(word for word in question.words if word in vqa_data.SHAPES + vqa_data.COLORS)
        present = word in (facts.shape[picture], facts.color[picture])
        assert answer == ("yes" if present != question.is_negative else "no")
        answers[question.is_negative, answer] += 1
    share = [count / sum(answers.values()) for count in answers.values()]
    assert len(share) == 4 and all(0.23 < value < 0.27 for value in share)


def test_descriptions_stand_in_the_picture_s_place():
    facts = vqa_data.Facts({1: "circle", 2: "triangle"}, {1: "red"})
    made = list(vqa_data.described(facts, [(1, "is there a circle?", "yes"), (2, "is there a circle?", "no")], "words", seed=0))
    assert len(made) == 1
    text = made[0]["messages"][0]["content"]
    head, question = text.split("</img>\n")
    assert question == "is there a circle?" and head.startswith("<img> ")
    described = head.removeprefix("<img>").replace(" .", "")
    assert 1 <= described.count("circle") == described.count("red") <= 3
    assert described.replace("circle", "").replace("red", "").strip() == ""


def test_questions_are_balanced_between_what_is_there_and_what_is_not():
    questions = vqa_data.load_questions("train")
    of = {(question.picture, question.text): question for question in questions}
    drawn = [of[picture, text] for picture, text, _ in vqa_data.balanced_questions(questions, 500, seed=1)]
    assert sum(question.is_open for question in drawn) == 500
    counts = Counter((question.is_about_shape, question.is_negative, question.answer) for question in drawn if not question.is_open)
    assert len(counts) == 8
    for about_shape in (False, True):
        for negative, here, elsewhere in ((False, "yes", "no"), (True, "no", "yes")):
            there = sum((q.is_about_shape, q.is_negative, q.answer) == (about_shape, negative, here) for q in questions if not q.is_open)
            assert counts[about_shape, negative, here] == counts[about_shape, negative, elsewhere] == there


def test_half_of_the_pictures_are_mirrored():
    made = list(vqa_data.half_mirrored([(7, "what?", "red")] * 1000, "q", seed=1))
    shown = Counter(sample["messages"][0]["content"][0]["image"] for sample in made)
    assert set(shown) == {"pictures/train/7.png", "pictures/mirrored/7.png"} and min(shown.values()) > 430
    assert len({sample["id"] for sample in made}) == 1000


def test_kinds_of_questions_and_their_matches(tmp_path):
    questions = [Question("what shape is present?", "circle", 0), Question("what color is the circle?", "red", 0),
                 Question("is there a circle?", "yes", 0), Question("is there not a red shape?", "no", 0)]
    assert [vqa.kind(question) for question in questions] == ["which shape", "which color", "yes or no, shape", "yes or no, color, negated"]
    (tmp_path / "p").write_text("".join(json.dumps({"sample": i, "match": i < 2}) + "\n" for i in (0, 1, 2, 3, 0)))
    assert vqa.match_by_kind(tmp_path / "p", questions) == {
        "which color": 1.0, "which shape": 1.0, "yes or no, color, negated": 0.0, "yes or no, shape": 0.0
    }
