"""The data of the easy-VQA demo: the package's pictures and questions as conversations, stage by stage.

Everything about the training pictures is taken from the package's training questions and answers, as a user would have to.
A pure function of the package and the seeds in this file.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
CAPTION_REQUEST = "Describe the picture."
ASK_POSITIVE = ("is there a {}?", "is there a {} in the image?", "does the image contain a {}?", "is a {} present?")
ASK_NEGATIVE = ("is there not a {}?", "is there not a {} in the image?", "does the image not contain a {}?", "is no {} present?")
ASK_SHAPE = ("what shape is in the image?", "what shape does the image contain?", "what shape is present?")
ASK_COLOR = ("what color is the shape?", "what is the color of the shape?")

# (picture, question, answer)
Item = tuple[int, str, str]


@dataclass(frozen=True)
class Question:
    """One question of the package; `picture` is the number of its picture."""

    text: str
    answer: str
    picture: int

    @property
    def words(self) -> list[str]:
        return self.text.rstrip("?").split()

    @property
    def is_open(self) -> bool:
        """A question for a word, not for yes or no."""
        return self.text.startswith("what")

    @property
    def is_negative(self) -> bool:
        return "not" in self.words or "no" in self.words


@dataclass
class Facts:
    """What is known of pictures: number -> word. A picture may be missing in either."""

    shape: dict[int, str] = field(default_factory=dict)
    color: dict[int, str] = field(default_factory=dict)

    def both(self) -> list[tuple[int, str, str]]:
        return [(picture, self.shape[picture], self.color[picture]) for picture in sorted(self.shape) if picture in self.color]


def load_questions(part: str) -> list[Question]:
    """The package's questions; part: train or test."""
    import easy_vqa

    load = {"train": easy_vqa.get_train_questions, "test": easy_vqa.get_test_questions}[part]
    return [Question(*row) for row in zip(*load())]


def copy_pictures(part: str, folder: Path) -> None:
    """Copies the pictures to `folder/<part>/<number>.png`."""
    import easy_vqa

    paths = {"train": easy_vqa.get_train_image_paths, "test": easy_vqa.get_test_image_paths}[part]()
    (folder / part).mkdir(parents=True, exist_ok=True)
    for number, path in sorted(paths.items()):
        shutil.copyfile(path, folder / part / f"{number}.png")


def derive_facts(questions: Iterable[Question]) -> Facts:
    """Reads shape and colour out of questions and answers: from a named or confirmed word, or because all others are denied."""
    facts = Facts()
    denied: dict[int, set[str]] = {}
    for question in questions:
        named = [*question.words, question.answer] if question.is_open else question.words
        confirmed = question.is_open or (question.answer == "yes") != question.is_negative
        for word in named:
            known = facts.shape if word in SHAPES else facts.color if word in COLORS else None
            if known is None:
                continue
            if confirmed:
                known[question.picture] = word
            else:
                denied.setdefault(question.picture, set()).add(word)
    for picture, words in denied.items():
        for known, possible in ((facts.shape, SHAPES), (facts.color, COLORS)):
            left = [word for word in possible if word not in words]
            if picture not in known and len(left) == 1:
                known[picture] = left[0]
    return facts


def sample(name: str, request: str, answer: str, picture: str | None) -> dict:
    content: str | list = request
    if picture is not None:
        content = [{"type": "image", "image": picture}, {"type": "text", "text": request}]
    return {"id": name, "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]}


def captions(facts: Facts) -> Iterator[Item]:
    """Each picture with the two words that describe it."""
    for picture, shape, color in facts.both():
        yield picture, CAPTION_REQUEST, f"{shape} {color}"


def asked(questions: Iterable[Question]) -> Iterator[Item]:
    """The package's own questions."""
    for question in questions:
        yield question.picture, question.text, question.answer


def some_of_each(questions: Iterable[Question], count: int, seed: int) -> Iterator[Item]:
    """Up to `count` of each picture's questions, drawn at random."""
    rng = random.Random(seed)
    by_picture: dict[int, list[Question]] = {}
    for question in questions:
        by_picture.setdefault(question.picture, []).append(question)
    for of_one in by_picture.values():
        yield from asked(rng.sample(of_one, min(count, len(of_one))))


def derived_questions(facts: Facts, seed: int, *, negated: bool) -> Iterator[Item]:
    """For each picture and each fact one question about the true word and one about a wrong one, and some open ones; with
    `negated` half of them are negated. So yes and no are equally likely in every form."""
    rng = random.Random(seed)
    for picture, shape, color in facts.both():
        for true, possible, suffix in ((shape, SHAPES, ""), (color, COLORS, " shape")):
            for word in (true, rng.choice([word for word in possible if word != true])):
                negative = negated and rng.random() < 0.5
                text = rng.choice(ASK_NEGATIVE if negative else ASK_POSITIVE).format(word + suffix)
                yield picture, text, "yes" if (word == true) != negative else "no"
        if rng.random() < 0.4:
            yield picture, rng.choice(ASK_SHAPE), shape
        if rng.random() < 0.4:
            yield picture, rng.choice(ASK_COLOR), color


def described(facts: Facts, items: Iterable[Item], name: str, seed: int) -> Iterator[dict]:
    """Text only: a written description, once to three times among dots, stands where the picture would be. Teaches what the
    questions mean before there is anything to see. Pictures of which too little is known are left out."""
    rng = random.Random(seed)
    for number, (picture, text, answer) in enumerate(items):
        if picture not in facts.shape or picture not in facts.color:
            continue
        slots = [" ."] * 8
        for place in rng.sample(range(8), rng.choice((1, 2, 3))):
            words = [facts.color[picture], facts.shape[picture]]
            slots[place] = " " + " ".join(words if rng.random() < 0.5 else words[::-1])
        yield sample(f"{name}-{number}", f"<img>{''.join(slots)}</img>\n{text}", answer, None)


def pictured(items: Iterable[Item], name: str, part: str = "train") -> Iterator[dict]:
    """Each question alone, with its picture."""
    for number, (picture, text, answer) in enumerate(items):
        yield sample(f"{name}-{number}", text, answer, f"pictures/{part}/{picture}.png")
