"""Makes a run folder, a dataset folder and a model folder like a real run leaves them, with made-up numbers."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gimbal.prepare import records

TEMPLATE = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def train_record(step: int, rng: random.Random, ranks: int = 2) -> dict:
    busy = [0.21 + 0.02 * rng.random() + (0.05 if rank == 1 and 60 < step < 75 else 0) for rank in range(ranks)]
    seconds = max(busy) + 0.045
    tokens = 4000 + rng.randrange(80)
    return {
        "kind": "train", "step": step, "epoch": step // 100, "loss": 0.15 + 4 * math.exp(-step / 60) + 0.1 * rng.random(),
        "lr": 1.5e-3 * min(1, step / 30) * (0.5 + 0.5 * math.cos(math.pi * step / 300)), "grad_norm": 0.4 + rng.random(),
        "samples": 16, "tokens": tokens, "loss_tokens": 180, "vision_rows": 64, "step_seconds": seconds,
        "data_wait_seconds": 0.004, "forward_seconds": 0.07, "backward_seconds": 0.13, "reduce_wait_seconds": 0.012,
        "optimizer_seconds": 0.02, "tokens_per_second": tokens / seconds, "images_per_second": 64 / seconds,
        "flops_per_second": 31e9 + 2e9 * rng.random(), "peak_share": 0.42 + 0.03 * rng.random(), "waste": 0.01 + 0.01 * rng.random(),
        "elapsed_seconds": step * 0.26,
        "ranks": [{"rank": rank, "busy_seconds": busy[rank], "tokens": tokens // ranks, "vision_rows": 32, "cost": 1.0}
                  for rank in range(ranks)],
    }


def make_model(folder: Path) -> Path:
    from gimbal.demo.model_folder import make_model_folder

    corpus = [f"Which digit is picture {a}? It is {b}.\nuser\nassistant\n" for a in WORDS for b in WORDS]
    return make_model_folder(folder, corpus=corpus, vocab_size=400)


def make_dataset(folder: Path, model: Path, count: int = 12, seed: int = 0) -> Path:
    """Samples of 1 to 3 pictures with one or two questions; every fifth picture is a larger drawing."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    context = tokenizer.token_to_id("<IMG_CONTEXT>")
    rng = random.Random(seed)
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    tokens, spans, refs, index, media, paths = [], [], [], [], [], b""
    for number in range(count):
        begin = (len(tokens), len(spans), len(refs))
        ids, spans_here = [], 0
        for turn in range(1 + number % 2):
            shown = 1 + rng.randrange(3)
            question = ""
            for _ in range(shown):
                side = 300 if len(media) % 5 == 4 else 16 + rng.randrange(40)
                image = Image.new("RGB", (side, side), (rng.randrange(60), 20, 60))
                ImageDraw.Draw(image).ellipse((side // 5, side // 5, side * 4 // 5, side * 4 // 5), outline=(250, 240, 200), width=max(1, side // 9))
                name = f"{len(media)}.png"
                image.save(pictures / name)
                encoded = f"pictures/{name}".encode()
                media.append((len(paths), 0, 0, len(encoded), 0, 0, side, side, 1, 1, 1, 0))
                paths += encoded
                refs.append(len(media) - 1)
                question += "<img>" + "<IMG_CONTEXT>" * 4 + "</img>\n"
            question += f"Which digit is picture {WORDS[1 + turn]}?"
            ids += tokenizer.encode(TEMPLATE.format(question=question), add_special_tokens=False).ids
            answer = tokenizer.encode(f"It is {rng.choice(WORDS)}.<|im_end|>", add_special_tokens=False).ids
            spans.append((len(ids), len(ids) + len(answer)))
            spans_here += 1
            ids += answer + tokenizer.encode("\n", add_special_tokens=False).ids
        loss_tokens = sum(end - first for first, end in spans[-spans_here:])
        rows = len(refs) - begin[2]
        index.append((*begin, len(ids), loss_tokens, spans_here, rows, rows, 0, 0, number + 1, 0, 0))
        tokens += ids
    arrays = {
        records.INDEX_FILE: np.array(index, records.INDEX), records.TOKENS_FILE: np.array(tokens, records.TOKEN),
        records.SPANS_FILE: np.array(spans, records.SPAN), records.REFS_FILE: np.array(refs, records.REF),
        records.MEDIA_FILE: np.array(media, records.MEDIA), records.PATHS_FILE: np.frombuffer(paths, "u1"),
    }
    for name, array in arrays.items():
        (folder / name).write_bytes(array.tobytes())
    manifest = {
        "format": "gimbal-dataset", "version": 1, "media_root": str(folder),
        "counts": {"samples": count, "tokens": len(tokens), "loss_spans": len(spans), "media_refs": len(refs), "media": len(media)},
        "sources": [{"name": "made", "weight": 1.0, "files": [{"path": "made.jsonl", "bytes": 1,
                                                               "sha256": hashlib.sha256(b"").hexdigest()}]}],
        "model": {"image_token_id": context, "image_seq_length": 4, "folder": str(model)},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def make_run(folder: Path, dataset: Path, model: Path, *, steps: int = 300, ranks: int = 2, finished: bool = True,
             seed: int = 0) -> Path:
    from gimbal.dataset import Dataset

    rng = random.Random(seed)
    folder.mkdir(parents=True)
    lines = [{"kind": "summary", "model": "internvl", "parameters": 1240000, "packs": 600, "packs_lower_bound": 597,
              "waste": 0.012, "memory_bytes": {"parameters": 5e6, "total": 734003200.0}, "fill": [0.98, 0.5]}]
    for step in range(1, steps + 1):
        lines.append(train_record(step, rng, ranks))
        if step % 100 == 0:
            lines.append({"kind": "eval", "step": step, "loss": 0.2 + 30 / step / step, "loss_tokens": 900,
                          "exact_match": 1 - 20 / (20 + step), "answers": 12})
    lines.append({"kind": "skipped", "step": steps + 1, "loss": "nan", "grad_norm": "inf", "samples": ["made.jsonl:3", "made.jsonl:9"]})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.yaml").write_text("name: made\ntrain:\n  seed: 1\n")
    if finished:
        data = Dataset(dataset)
        predictions = []
        for number in range(len(data)):
            sample = data.sample(number)
            for span, (begin, end) in enumerate(sample.spans):
                reference = [int(token) for token in sample.tokens[begin:end]]
                wrong = (number + span) % 4 == 0
                predicted = reference[:-3] + reference[-1:] if wrong else reference
                predictions.append({"sample": number, "span": span, "reference": reference, "predicted": predicted, "match": not wrong})
        (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in predictions))
        (folder / "eval.json").write_text(json.dumps({"loss": 0.21, "loss_tokens": 900, "exact_match": 0.94, "answers": 12,
                                                      "dataset": str(dataset), "model": str(model)}))
        (folder / "summary.json").write_text(json.dumps({"steps": steps, "train_seconds": 78.2, "tokens_per_second": 15500.0}))
    return folder
