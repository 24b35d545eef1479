"""The data of the easy-VQA demo: the package's pictures and questions as conversations, stage by stage.

Everything about the training pictures is taken from the package's training questions and answers, as a user would have to.
A pure function of the package and of the seeds that the caller gives.
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

    @property
    def is_about_shape(self) -> bool:
        """Asks for a shape, or whether one is there."""
        return any(word in SHAPES for word in ([self.answer] if self.is_open else self.words))


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
    """Copies the pictures to `folder/<part>/<number>.png`; of those for training, their mirror images to
    `folder/mirrored/<number>.png`."""
    import easy_vqa
    from PIL import Image, ImageOps

    paths = {"train": easy_vqa.get_train_image_paths, "test": easy_vqa.get_test_image_paths}[part]()
    (folder / part).mkdir(parents=True, exist_ok=True)
    for number, path in sorted(paths.items()):
        shutil.copyfile(path, folder / part / f"{number}.png")
    if part == "train":
        (folder / "mirrored").mkdir(parents=True, exist_ok=True)
        for number, path in sorted(paths.items()):
            with Image.open(path) as picture:
                ImageOps.mirror(picture).save(folder / "mirrored" / f"{number}.png")


def hold_out(questions: Iterable[Question], num_pictures: int, seed: int) -> tuple[list[Question], list[Question]]:
    """The questions for training and those about `num_pictures` pictures that are held out for validation."""
    questions = list(questions)
    held_out = set(random.Random(seed).sample(sorted({question.picture for question in questions}), num_pictures))
    training = [question for question in questions if question.picture not in held_out]
    return training, [question for question in questions if question.picture in held_out]


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


def balanced_questions(questions: Iterable[Question], num_open: int, seed: int) -> Iterator[Item]:
    """`num_open` open questions, all yes-or-no questions about what is in the picture, and as many about what is not. The
    package asks seven times as often about a colour that is not there, which teaches not to look."""
    rng = random.Random(seed)
    open_questions, present, absent = [], {}, {}
    for question in questions:
        if question.is_open:
            open_questions.append(question)
        else:
            side = present if (question.answer == "yes") != question.is_negative else absent
            side.setdefault((question.is_about_shape, question.is_negative), []).append(question)
    yield from asked(rng.sample(open_questions, min(num_open, len(open_questions))))
    for form, of_form in present.items():
        yield from asked(of_form)
        others = absent.get(form, [])
        yield from asked(rng.sample(others, min(len(of_form), len(others))))


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


def pictured(items: Iterable[Item], name: str, folder: str) -> Iterator[dict]:
    """Each question alone, with its picture in `folder`, a folder of copy_pictures."""
    for number, (picture, text, answer) in enumerate(items):
        yield sample(f"{name}-{number}", text, answer, f"pictures/{folder}/{picture}.png")


def half_mirrored(items: Iterable[Item], name: str, seed: int) -> Iterator[dict]:
    """Each question alone, one half with the picture and one half with its mirror image, drawn at random."""
    rng = random.Random(seed)
    for number, item in enumerate(items):
        yield from pictured([item], f"{name}-{number}", rng.choice(("train", "mirrored")))
