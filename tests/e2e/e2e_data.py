"""Conversations and the tiny model of the end-to-end tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLOURS = ["red", "green", "blue", "white"]
TINY = {
    "vision.hidden_size": 32, "vision.num_layers": 1, "vision.num_heads": 2, "vision.intermediate_size": 64,
    "text.hidden_size": 32, "text.num_layers": 2, "text.num_heads": 2, "text.num_key_value_heads": 1, "text.intermediate_size": 64,
}  # fmt: skip
MESH_SIZES = {
    "vision.hidden_size": 32, "vision.num_layers": 2, "vision.num_heads": 4, "vision.intermediate_size": 64,
    "text.hidden_size": 32, "text.num_layers": 4, "text.num_heads": 4, "text.num_key_value_heads": 2, "text.intermediate_size": 64,
}  # fmt: skip
FILLER = ["the answer comes at the end", "look at each picture in its order", "there is one word for each of them"]


def conversation(images: list[str], question: str, answer: str) -> dict[str, Any]:
    parts = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]
    return {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]}


def colour_talks(first: int, number: int) -> list[dict[str, Any]]:
    """Conversations of 0 to 4 pictures and of unlike length, the same for the same numbers."""
    talks = []
    for i in range(first, first + number):
        names = [COLOURS[(i * 7 + j * 3) % 4] for j in range(i % 5)]
        files = [f"{name}.{'png' if (i + j) % 2 else 'jpg'}" for j, name in enumerate(names)]
        question = " ".join([FILLER[i % 3]] * (1 + i % 4)) + ": which colours?"
        talks.append(conversation(files, question, " ".join(names) or "none"))
    return talks


def make_model(out: Path, **options: Any) -> Path:
    from gimbal.demo.model_folder import make_model_folder

    corpus = [json.dumps(talk) for talk in colour_talks(0, 20)] + FILLER * 20
    return make_model_folder(out, **{"corpus": corpus, "vocab_size": 320, "sizes": TINY, **options})
