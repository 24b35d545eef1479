"""Loads an exported model folder with `transformers` and answers the same questions from the original conversations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_questions(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def answers(model: Path, questions: list[dict[str, Any]], folder: Path, *, max_new_tokens: int, batch: int = 64) -> list[list[int]]:
    """Greedy answers as token ids, the end token included. `questions` are conversations of one question each; their
    pictures are relative to `folder`. Template, tokenizer, image processor and model are those of `transformers`."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    processor = AutoImageProcessor.from_pretrained(model)
    network = AutoModelForImageTextToText.from_pretrained(model).eval()
    expanded = tokenizer.start_image_token + tokenizer.context_image_token * network.config.image_seq_length + tokenizer.end_image_token

    by_length: dict[int, list[tuple[int, list[int], list[Path]]]] = {}
    for index, question in enumerate(questions):
        messages = question["messages"][:-1]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text.replace(tokenizer.context_image_token, expanded), add_special_tokens=False)["input_ids"]
        pictures = [folder / part["image"] for message in messages if isinstance(message["content"], list)
                    for part in message["content"] if part["type"] == "image"]
        by_length.setdefault(len(ids), []).append((index, ids, pictures))

    result: list[list[int]] = [[] for _ in questions]
    stops = network.generation_config.eos_token_id
    stops = set(stops if isinstance(stops, list) else [stops])
    for rows in by_length.values():
        # Prompts of one length need no padding, which would change the positions.
        for begin in range(0, len(rows), batch):
            part = rows[begin : begin + batch]
            images = [Image.open(path) for _, _, paths in part for path in paths]
            inputs = {"input_ids": torch.tensor([ids for _, ids, _ in part])}
            if images:
                inputs["pixel_values"] = processor(images=images, crop_to_patches=False, return_tensors="pt")["pixel_values"]
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            with torch.inference_mode():
                output = network.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
            for (index, ids, _), row in zip(part, output.tolist()):
                result[index] = _until_stop(row[len(ids) :], stops)
    return result


def agreement(model: Path, questions: list[dict[str, Any]], folder: Path, predictions: Path, *, max_new_tokens: int) -> float:
    """Share of the questions with the same answer, token by token, as in predictions.jsonl (whose samples have the numbers of
    the questions)."""
    ours: dict[int, dict[str, Any]] = {}
    with predictions.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            ours[row["sample"]] = row
    theirs = answers(model, questions, folder, max_new_tokens=max_new_tokens)
    return sum(index in ours and same_answer(ours[index], row) for index, row in enumerate(theirs)) / len(questions)


def same_answer(ours: dict[str, Any], theirs: list[int]) -> bool:
    """An evaluation stops an answer that has become longer than the longest reference; only up to there both can be compared."""
    predicted = ours["predicted"]
    if len(predicted) > len(ours["reference"]):
        theirs = theirs[: len(predicted)]
    return predicted == theirs


def _until_stop(ids: list[int], stops: set[int]) -> list[int]:
    """The ids before the first end token: whether a program lists the end token makes no answer another one."""
    for place, token in enumerate(ids):
        if token in stops:
            return ids[:place]
    return ids
