"""The peer of bench/train_step: the same model and conversations with transformers and torch, as a user would write it.

Prints one JSON line: real (unpadded) tokens, seconds, steps. Under torchrun it trains with DistributedDataParallel.
The samples are read, decoded and processed before the clock starts, which favours the peer.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import time

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from gimbal.dataset import Dataset

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def load_samples(dataset: Dataset, processor: GotOcr2ImageProcessorPil, count: int) -> list[Sample]:
    """(ids, labels, pixels) of `count` samples spread over the dataset."""
    cache: dict[int, torch.Tensor] = {}
    samples = []
    for number in np.linspace(0, len(dataset) - 1, count).astype(int):
        sample = dataset.sample(int(number))
        ids = torch.from_numpy(sample.tokens.astype(np.int64))
        labels = torch.full_like(ids, -100)
        for begin, end in sample.spans:
            labels[begin:end] = ids[begin:end]
        pixels = []
        for media in sample.media:
            if media.number not in cache:
                image = Image.open(io.BytesIO(dataset.media_bytes(media))).convert("RGB")
                cache[media.number] = processor(image, return_tensors="pt")["pixel_values"].float()
            pixels.append(cache[media.number])
        samples.append((ids, labels, torch.cat(pixels) if pixels else torch.empty(0)))
    return samples


def make_batches(samples: list[Sample], size: int, order: str, seed: int) -> list[list[Sample]]:
    """`shuffled`: random mini-batches. `sorted`: neighbours in length, so that hardly anything is padded."""
    rng = random.Random(seed)
    if order == "sorted":
        samples = sorted(samples, key=lambda sample: len(sample[0]))
        batches = [samples[i : i + size] for i in range(0, len(samples) - size + 1, size)]
        rng.shuffle(batches)
        return batches
    samples = rng.sample(samples, len(samples))
    return [samples[i : i + size] for i in range(0, len(samples) - size + 1, size)]


def collate(batch: list[Sample], pad: int) -> dict[str, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([sample[0] for sample in batch], batch_first=True, padding_value=pad)
    labels = torch.nn.utils.rnn.pad_sequence([sample[1] for sample in batch], batch_first=True, padding_value=-100)
    lengths = torch.tensor([len(sample[0]) for sample in batch])
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    pixels = [sample[2] for sample in batch if sample[2].numel()]
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if pixels:
        inputs["pixel_values"] = torch.cat(pixels)
    return inputs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--order", choices=["shuffled", "sorted"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()

    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if world > 1:
        torch.distributed.init_process_group("gloo")
    dataset = Dataset(args.data)
    settings = dataset.manifest["image_processor"]
    processor = GotOcr2ImageProcessorPil(
        size={"height": settings["height"], "width": settings["width"]},
        **{key: settings[key] for key in ("crop_to_patches", "min_patches", "max_patches")},
    )
    config = AutoConfig.from_pretrained(args.model)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model.config.use_cache = False
    model.train()
    trained = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    # fused=True is the fastest AdamW that torch has on a CPU; its default is several times slower.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    samples = load_samples(dataset, processor, args.batch * world * (args.steps + args.warmup) * 2)
    batches = make_batches(samples, args.batch, args.order, seed=0)[rank::world][: args.steps + args.warmup]
    pad = config.text_config.pad_token_id or 0
    tokens, seconds = 0, 0.0
    for step, batch in enumerate(batches):
        start = time.perf_counter()
        inputs = collate(batch, pad)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            loss = trained(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        if step >= args.warmup:
            seconds += time.perf_counter() - start
            tokens += sum(len(sample[0]) for sample in batch)
    figures = torch.tensor([float(tokens), seconds])
    if world > 1:
        total = figures.clone()
        torch.distributed.all_reduce(total)
        figures = torch.tensor([total[0], total[1] / world])
    if rank == 0:
        print(json.dumps({"tokens": int(figures[0]), "seconds": float(figures[1]), "steps": len(batches) - args.warmup}), flush=True)
    # No destructors: DDP's reducer holds the interpreter's lock while it waits for Gloo's thread, which may wait for that lock.
    os._exit(0)


if __name__ == "__main__":
    main()
