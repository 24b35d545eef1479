"""The peer of speed.py: PyTorch's DistributedDataParallel around the model of `transformers`, on the packs that Gimbal
has run.

    torchrun --nproc-per-node 2 ddp_peer.py --model MODEL --data DATA --packs PACKS.json --how packed --warmup 8

A pack is run as one row, its samples kept apart by their positions (packed), or as a row per sample (padded). Its
samples are read, decoded and collated before the clock starts, which favours the peer. Rank 0 prints one JSON line:
tokens, seconds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from gimbal.dataset import Dataset, Sample
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

Inputs = dict[str, torch.Tensor]


class Reader:
    """Samples as tensors."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        settings = dataset.manifest["image_processor"]
        self._processor = GotOcr2ImageProcessorPil(
            size={"height": settings["height"], "width": settings["width"]},
            **{key: settings[key] for key in ("crop_to_patches", "min_patches", "max_patches")},
        )
        self._pixels: dict[int, torch.Tensor] = {}

    def _pixels_of(self, sample: Sample) -> list[torch.Tensor]:
        for media in sample.media:
            if media.number not in self._pixels:
                image = Image.open(io.BytesIO(self._dataset.media_bytes(media))).convert("RGB")
                self._pixels[media.number] = self._processor(image, return_tensors="pt")["pixel_values"].float()
        return [self._pixels[media.number] for media in sample.media]

    def inputs(self, pack: Sequence[int], how: str, pad: int) -> Inputs:
        """What the model takes for the samples of one pack."""
        ids, labels, pixels = [], [], []
        for number in pack:
            sample = self._dataset.sample(number)
            ids.append(torch.from_numpy(sample.tokens.astype(np.int64)))
            labels.append(torch.full_like(ids[-1], -100))
            for begin, end in sample.spans:
                labels[-1][begin:end] = ids[-1][begin:end]
            pixels += self._pixels_of(sample)
        inputs = {"pixel_values": torch.cat(pixels)} if pixels else {}
        if how == "packed":
            positions = torch.cat([torch.arange(len(row)) for row in ids])
            rows = {"input_ids": torch.cat(ids), "labels": torch.cat(labels), "position_ids": positions}
            return inputs | {name: row[None] for name, row in rows.items()}
        lengths = torch.tensor([len(row) for row in ids])
        padded_ids = pad_sequence(ids, batch_first=True, padding_value=pad)
        padded_labels = pad_sequence(labels, batch_first=True, padding_value=-100)
        mask = (torch.arange(padded_ids.shape[1])[None] < lengths[:, None]).long()
        return inputs | {"input_ids": padded_ids, "labels": padded_labels, "attention_mask": mask}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--packs", type=Path, required=True, help="JSON: [steps][ranks][samples]")
    parser.add_argument("--how", choices=["packed", "padded"], required=True)
    parser.add_argument("--warmup", type=int, required=True)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    config = AutoConfig.from_pretrained(args.model)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model.config.use_cache = False
    trained = torch.nn.parallel.DistributedDataParallel(model.train())
    # fused=True is the fastest AdamW that torch has on a CPU; its default is several times slower.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    dataset = Dataset(args.data)
    reader = Reader(dataset)
    steps = [of_ranks[dist.get_rank()] for of_ranks in json.loads(args.packs.read_text())]
    batches = [reader.inputs(pack, args.how, config.text_config.pad_token_id or 0) for pack in steps]
    tokens, seconds, losses = 0, 0.0, []
    for number, (pack, inputs) in enumerate(zip(steps, batches, strict=True)):
        start = time.perf_counter()
        loss = trained(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if number >= args.warmup:
            seconds += time.perf_counter() - start
            tokens += int(dataset.index["num_tokens"][pack].sum())
    total = torch.tensor([float(tokens), seconds])
    dist.all_reduce(total)
    if dist.get_rank() == 0:
        mean_seconds = float(total[1]) / dist.get_world_size()
        print(json.dumps({"tokens": int(total[0]), "seconds": mean_seconds, "losses": losses}), flush=True)
    # No destructors: DDP's reducer holds the interpreter's lock while it waits for Gloo's thread, which may wait for that lock.
    os._exit(0)


if __name__ == "__main__":
    main()
