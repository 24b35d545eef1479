"""Makes a one-sample dataset folder of a conversation that the model is to go on with."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from gimbal import UserError
from gimbal.prepare import PrepareConfig, Source, prepare, records

Message = dict[str, Any]


def user_message(text: str, images: list[str]) -> tuple[list[Message], list[str]]:
    """(messages, listed images) of one question. `<image>` in the text says where the pictures go; else they come first."""
    paths = []
    for image in images:
        if not Path(image).is_file():
            raise UserError(f"--image {image}: no such file")
        paths.append(str(Path(image).resolve()))
    if "<image>" in text and paths:
        return [{"role": "user", "content": text}], paths
    parts: list[dict[str, Any]] = [{"type": "image", "image": path} for path in paths]
    content: Any = [*parts, {"type": "text", "text": text}] if parts else text
    return [{"role": "user", "content": content}], []


def read_messages(path: str) -> tuple[list[Message], list[str]]:
    """Reads a JSON file: a list of messages, or an object with `messages` and maybe `images`."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--messages {path}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"--messages {path}: not valid JSON ({error})") from error
    images = value.get("images") or [] if isinstance(value, dict) else []
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise UserError(f"--messages {path}: expected a list of messages, or an object with the key `messages`")
    if messages[-1].get("role") == "assistant":
        raise UserError(f"--messages {path}: the last message is the assistant's; end with the user's")
    return messages, images


def make_prompt_dataset(
    model: Path, messages: list[Message], out: Path, *, images: list[str] | None = None, media_root: str | None = None
) -> int:
    """Writes the dataset folder `out/dataset` with one sample that ends where the answer begins; returns its number of tokens.

    The conversation is prepared with a stand-in answer, by the code that prepares training data, and cut at that answer's
    first token: the model sees exactly what it saw in training.
    """
    sample: dict[str, Any] = {"messages": [{**message, "loss": False} for message in messages]}
    sample["messages"].append({"role": "assistant", "content": "."})
    if images:
        sample["images"] = images
    source = out / "prompt.jsonl"
    source.write_text(json.dumps(sample, ensure_ascii=False) + "\n", encoding="utf-8")
    dataset = out / "dataset"
    config = PrepareConfig(
        model=str(model), sources=[Source("prompt", [str(source)], media_root=media_root)], out=str(dataset), workers=1
    )
    messages_of_prepare = io.StringIO()
    with contextlib.redirect_stderr(messages_of_prepare):
        manifest = prepare(config)
    if manifest["counts"]["samples"] != 1:
        rejected = json.loads((dataset / records.REJECTED_FILE).read_text(encoding="utf-8").splitlines()[0])
        raise UserError(f"the prompt can't be used: {rejected['detail']}")
    return _cut_answer(dataset, manifest)


def _cut_answer(dataset: Path, manifest: dict[str, Any]) -> int:
    index = np.fromfile(dataset / records.INDEX_FILE, records.INDEX)
    spans = np.fromfile(dataset / records.SPANS_FILE, records.SPAN)
    begin = int(spans[-1]["begin"])
    index["num_tokens"], index["num_loss_tokens"], index["num_loss_spans"] = begin, 0, 0
    contents = {
        records.INDEX_FILE: index.tobytes(),
        records.SPANS_FILE: b"",
        records.TOKENS_FILE: np.fromfile(dataset / records.TOKENS_FILE, records.TOKEN)[:begin].tobytes(),
    }
    for name, data in contents.items():
        (dataset / name).write_bytes(data)
        manifest["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest["counts"] |= {"tokens": begin, "loss_tokens": 0, "loss_spans": 0}
    manifest["max"]["text"] = begin
    (dataset / records.MANIFEST_FILE).write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return begin
