"""Sample cards: pictures, the question, the reference answer and the predicted one."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.dataset import Dataset, Media, Sample
from gimbal.decoder import TokenDecoder
from gimbal.report.runs import Stage

THUMBNAIL = 224
ROLES = ("system", "user", "assistant", "tool")


@dataclass
class Part:
    """A piece of a conversation: text of a role, or a picture (`media` counts the sample's pictures from 0; `image` is a
    data URL of `width` pixels, empty when the picture can't be read)."""

    kind: str
    text: str = ""
    role: str = ""
    media: int = -1
    image: str = ""
    width: int = 0


@dataclass
class Card:
    sample: int
    where: str
    question: list[Part]
    earlier: list[Part]
    reference: str
    predicted: str
    match: bool


@dataclass
class Cards:
    cards: list[Card] = field(default_factory=list)
    total: int = 0
    wrong: int = 0
    problem: str = ""


def choose(predictions: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """At most `most`, spread evenly over the set: up to half of them wrong ones (more when few are right)."""
    wrong = [row for row in predictions if not row.get("match")]
    right = [row for row in predictions if row.get("match")]
    num_wrong = min(len(wrong), max(most // 2, most - len(right)))
    return _spread(wrong, num_wrong) + _spread(right, min(len(right), most - num_wrong))


def _spread(rows: list[Any], most: int) -> list[Any]:
    return [rows[i * len(rows) // most] for i in range(most)]


def split_conversation(sample: Sample, end: int, decoder: TokenDecoder, image_token: int, rows_to_tokens: int) -> list[Part]:
    """Tokens [0, end) as texts by role and pictures. Roles are read from the words that follow special tokens, which is how
    chat templates mark turns."""
    parts: list[Part] = []
    pending: list[int] = []
    role = ""
    media = iter(enumerate(sample.media))

    def flush() -> None:
        nonlocal role
        text = decoder.decode(pending).lstrip("\n")
        pending.clear()
        head, newline, rest = text.partition("\n")
        if head.strip() in ROLES and (newline or not rest):
            role, text = head.strip(), rest
        if text.strip():
            parts.append(Part("text", text=text.strip(), role=role))

    position = 0
    while position < end:
        token = int(sample.tokens[position])
        if token == image_token and (item := next(media, None)) is not None:
            flush()
            parts.append(Part("image", role=role, media=item[0]))
            position += max(1, item[1].rows * rows_to_tokens)
            continue
        if token in decoder.special:
            flush()
        else:
            pending.append(token)
        position += 1
    flush()
    return parts


def thumbnail(dataset: Dataset, media: Media) -> tuple[str, int]:
    """A picture as data URL of at most 224 pixels, and its width there. Empty when it can't be read."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(dataset.media_bytes(media))) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError):
        return "", 0
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small = max(image.size) <= 64
    image.save(buffer, "PNG") if small else image.save(buffer, "JPEG", quality=82)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), image.width


def make_cards(stage: Stage, most: int = 60) -> Cards:
    """Cards of a stage's predictions; `problem` says why there are none when the data or the tokenizer is gone."""
    if not stage.predictions:
        return Cards()
    wrong = sum(not row.get("match") for row in stage.predictions)
    result = Cards(total=len(stage.predictions), wrong=wrong)
    if not stage.evaluation.get("dataset"):
        result.problem = f"{stage.folder / 'eval.json'} does not name the dataset of the answers"
        return result
    try:
        dataset = Dataset(locate(stage.evaluation["dataset"], stage.folder))
        decoder = TokenDecoder(_tokenizer_folder(stage, dataset))
    except UserError as error:
        result.problem = str(error)
        return result
    model = dataset.manifest.get("model", {})
    urls: dict[int, tuple[str, int]] = {}
    for row in choose(stage.predictions, most):
        try:
            sample = dataset.sample(int(row["sample"]))
            begin = sample.spans[int(row["span"])][0]
        except (UserError, IndexError):
            result.problem = f"{dataset.folder}: has no sample {row['sample']} with answer {row['span']} (data made anew?)"
            continue
        parts = split_conversation(
            sample, begin, decoder, int(model.get("image_token_id", -1)), int(model.get("image_seq_length", 0))
        )
        for part in parts:
            if part.kind == "image":
                item = sample.media[part.media]
                if item.number not in urls:
                    urls[item.number] = thumbnail(dataset, item)
                part.image, part.width = urls[item.number]
        asked = _last_question(parts)
        result.cards.append(
            Card(
                sample=sample.number,
                where=f"{Path(sample.file).name}:{sample.line}",
                question=parts[asked:],
                earlier=parts[:asked],
                reference=decoder.decode(row["reference"]),
                predicted=decoder.decode(row["predicted"]),
                match=bool(row.get("match")),
            )
        )
    return result


def _last_question(parts: list[Part]) -> int:
    """Where the parts after the last assistant's answer begin."""
    for index in range(len(parts) - 1, -1, -1):
        if parts[index].role == "assistant":
            return index + 1
    return 0


def _tokenizer_folder(stage: Stage, dataset: Dataset) -> Path:
    """The exported model's folder; before a run has one, the folder that the dataset was made with."""
    named = (stage.evaluation.get("model"), dataset.manifest["model"].get("folder"))
    folders = [stage.folder / "hf", *(locate(name, stage.folder) for name in named if name)]
    return next((folder for folder in folders if (folder / "tokenizer.json").is_file()), folders[0])


def locate(path: str, run: Path) -> Path:
    """A path that a run wrote down relative to where it was started: looked for here, then in the folders above the run."""
    for base in (Path(), *run.resolve().parents):
        if (base / path).exists():
            return base / path
    return Path(path)
