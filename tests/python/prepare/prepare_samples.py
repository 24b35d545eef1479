"""Samples, and files of them, that the tests of this folder share."""

from __future__ import annotations

import json

CORPUS = [
    "what shape is in the image? it is a rectangle",
    "how many digits are there? seven of them, and a circle",
    "Hello world, the colour is blue; is it? yes, no.",
] * 20


def write_lines(path, samples):
    path.write_text("".join((s if isinstance(s, str) else json.dumps(s)) + "\n" for s in samples), encoding="utf-8")
    return str(path)


def talk(question="what shape?", answer="a circle", *images):
    """An OpenAI-style sample: images, a question and its answer."""
    parts = [{"type": "image", "image": image} for image in images]
    content = [*parts, {"type": "text", "text": question}] if images else question
    return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]}


def rejections(data):
    """(reason, detail) of each rejected sample, in order."""
    return [(line["reason"], line["detail"]) for line in data.first_rejections(1000)]
