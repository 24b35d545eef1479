"""A plain PyTorch training loop on balanced batches, in one or several processes, with a checkpoint in mid-epoch.

    python examples/balance_pytorch.py
    torchrun --nproc-per-node 2 examples/balance_pytorch.py --steps 20 --checkpoint run.pt
    torchrun --nproc-per-node 4 examples/balance_pytorch.py --steps 40 --checkpoint run.pt     # goes on, on 4 ranks

The model classifies made-up samples of unlike length: each pack is one row of tokens, without padding.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from gimbal.balance import BalancedBatchSampler

STREAMS = ["vision", "tokens"]
CAPS = {"vision": 9, "tokens": 1024}
VOCABULARY, CLASSES = 64, 8


class MadeUpSamples(Dataset):
    """Sample i: random tokens, image tiles, and a class that depends on the tokens."""

    def __init__(self, num_samples: int) -> None:
        rng = np.random.default_rng(0)
        tokens = rng.integers(16, 400, num_samples)
        self.sizes = np.stack([rng.integers(0, 6, num_samples), tokens], axis=1).astype(np.uint32)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(i)
        label = int(rng.integers(CLASSES))
        tokens = rng.integers(VOCABULARY, size=int(self.sizes[i, 1]))
        tokens[::2] = label
        return {"tokens": torch.from_numpy(tokens), "label": torch.tensor(label)}


def collate(samples: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One row of tokens, and where each sample begins."""
    lengths = torch.tensor([len(s["tokens"]) for s in samples])
    return {
        "tokens": torch.cat([s["tokens"] for s in samples]),
        "begins": torch.cumsum(lengths, 0) - lengths,
        "labels": torch.stack([s["label"] for s in samples]),
    }


def train(arguments: argparse.Namespace) -> list[float]:
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world_size > 1:
        dist.init_process_group("gloo")
    torch.manual_seed(0)
    data = MadeUpSamples(arguments.samples)
    # A step is always the same 4 packs, whatever the number of ranks: with 2 ranks each runs two of them.
    sampler = BalancedBatchSampler(
        data.sizes, CAPS, names=STREAMS, rank=rank, world_size=world_size, packs_per_step=4, seed=arguments.seed
    )
    model = torch.nn.EmbeddingBag(VOCABULARY, CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    steps_done = load(arguments.checkpoint, model, optimizer, sampler)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, num_workers=arguments.workers)
    losses: list[float] = []
    while steps_done < arguments.steps:
        begun, total = sampler.state_dict()["packs"], torch.zeros(())
        for i, batch in enumerate(loader, start=1):
            loss = torch.nn.functional.cross_entropy(
                model(batch["tokens"], batch["begins"]), batch["labels"], reduction="sum"
            )
            loss.backward()
            total += loss.detach()
            if i % sampler.batches_per_step:
                continue
            # The samples of this step over all ranks are known from the packs: no communication.
            step = begun // sampler.packs_per_step + i // sampler.batches_per_step - 1
            count = sum(len(sampler.packed.pack(step, p)) for p in range(sampler.packs_per_step))
            losses.append(reduce_step(model, total, count, world_size))
            optimizer.step()
            optimizer.zero_grad()
            total.zero_()
            steps_done += 1
            if steps_done == arguments.steps:
                # The loop has finished i batches; the loader's workers may have fetched more.
                save(arguments.checkpoint, model, optimizer, sampler.state_dict(i), steps_done, rank)
                break
        else:
            sampler.set_epoch(sampler.epoch + 1)
    if rank == 0:
        print(f"step {steps_done}, epoch {sampler.epoch}, loss {losses[-1]:.4f}" if losses else "nothing left to do")
    if world_size > 1:
        # A rank that leaves while another one still talks to it would end that one with an error.
        dist.barrier()
        dist.destroy_process_group()
    return losses


def reduce_step(model: torch.nn.Module, total: torch.Tensor, count: int, world_size: int) -> float:
    """Adds gradients and loss up over the ranks and divides by the step's samples: the same for any number of ranks."""
    for tensor in [total, *(p.grad for p in model.parameters() if p.grad is not None)]:
        if world_size > 1:
            dist.all_reduce(tensor)
        tensor /= count
    return float(total)


def load(path: str | None, model: Any, optimizer: Any, sampler: BalancedBatchSampler) -> int:
    if path is None or not Path(path).is_file():
        return 0
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    sampler.load_state_dict(state["sampler"])
    return state["steps"]


def save(path: str | None, model: Any, optimizer: Any, sampler_state: dict[str, Any], steps: int, rank: int) -> None:
    if path is None or rank != 0:
        return
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "sampler": sampler_state, "steps": steps}
    torch.save(state, path + ".partial")
    os.replace(path + ".partial", path)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps in all")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", help="read when it is there, written at the end")
    return parser.parse_args(words)


if __name__ == "__main__":
    train(parse())
