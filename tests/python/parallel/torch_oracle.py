"""Trains a `transformers` model on given packs with PyTorch's own DDP or FSDP2, in as many processes as were started.

    python torch_oracle.py SETTINGS.json OUT.json     (with RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)

Rank 0 writes the loss and the gradient norm of each step.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForImageTextToText

from gimbal.dataset import Dataset

SECONDS = 150


class Packs(torch.nn.Module):
    """The summed loss of all samples of a rank's packs, each run by itself: no padding and no mask is involved."""

    def __init__(self, model: torch.nn.Module, data: Dataset) -> None:
        super().__init__()
        self.model = model
        self._data = data

    def forward(self, samples: list[int]) -> torch.Tensor:
        # Every parameter takes part, so that a rank without pictures has gradients for the vision tower as well. Those that
        # FSDP2 has still sharded belong to text layers, which every sample uses.
        whole = [parameter for parameter in self.parameters() if not isinstance(parameter, DTensor)]
        total = sum(parameter.sum() for parameter in whole) * 0.0
        for number in samples:
            total = total + self.loss_sum(number)
        return total

    def loss_sum(self, number: int) -> torch.Tensor:
        sample = self._data.sample(number)
        ids = torch.from_numpy(sample.tokens.astype(np.int64))
        inputs = {"input_ids": ids[None]}
        if sample.media:
            inputs["pixel_values"] = torch.stack([self.pixels(media.path) for media in sample.media])
        logits = self.model(**inputs, use_cache=False).logits[0]
        places = torch.cat([torch.arange(begin, end) for begin, end in sample.spans])
        return torch.nn.functional.cross_entropy(logits[places - 1].float(), ids[places], reduction="sum")

    def pixels(self, path: Path) -> torch.Tensor:
        settings = self._data.manifest["image_processor"]
        image = Image.open(path).convert("RGB")
        assert image.size == (settings["width"], settings["height"]), "one tile, nothing to resize"
        values = torch.from_numpy(np.asarray(image).astype(np.float32)) * settings["rescale_factor"]
        mean, std = torch.tensor(settings["image_mean"]), torch.tensor(settings["image_std"])
        return ((values - mean) / std).permute(2, 0, 1).contiguous()


def parallel(packs: Packs, kind: str) -> torch.nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(packs)
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in packs.model.model.language_model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(packs, mesh=mesh)


def main() -> None:
    # A process that hangs says where, in all its threads, and ends.
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    settings = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    data = Dataset(settings["data"])
    model = AutoModelForImageTextToText.from_pretrained(settings["model"], attn_implementation="eager", dtype=torch.float32)
    packs = Packs(model.train(), data)
    trained = parallel(packs, settings["kind"])
    optimizer = torch.optim.AdamW(trained.parameters(), **settings["adamw"])
    losses, norms = [], []
    for of_ranks in settings["steps"]:
        loss_tokens = sum(int(data.index["num_loss_tokens"][sample]) for samples in of_ranks for sample in samples)
        # Both kinds average gradients over the ranks.
        loss = trained(of_ranks[rank]) / loss_tokens * world
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained.parameters(), settings["clip_norm"])
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach() / world
        dist.all_reduce(mean)
        losses.append(mean.item())
        norms.append(float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm))
    if rank == 0:
        Path(sys.argv[2]).write_text(json.dumps({"losses": losses, "norms": norms}))
    # No destructors: DDP's reducer holds the interpreter's lock while it waits for Gloo's thread, which may wait for that lock.
    os._exit(0)


if __name__ == "__main__":
    main()
