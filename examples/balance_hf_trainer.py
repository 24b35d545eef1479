"""Hugging Face `Trainer` on balanced batches. Needs transformers and accelerate.

    python examples/balance_hf_trainer.py --out /tmp/run
    python examples/balance_hf_trainer.py --out /tmp/run --steps 20 --resume

Three things make it work: the loader is returned as it is (Accelerate would deal the batches out to the ranks a second time), it
hands `set_epoch` on to the sampler, and `equal_epochs` gives all epochs the same length, because `Trainer` asks for it once.
Resuming is `Trainer`'s own: it skips the batches of the epoch that are done, which costs nothing as no data is read for them.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from gimbal.balance import BalancedBatchSampler

CAPS = {"tokens": 256}
VOCABULARY = 64


class MadeUpTexts(Dataset):
    """Sample i: tokens that count upward from a random start."""

    def __init__(self, num_samples: int) -> None:
        self.sizes = np.random.default_rng(0).integers(8, 120, (num_samples, 1)).astype(np.uint32)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, i: int) -> torch.Tensor:
        return (torch.arange(int(self.sizes[i, 0])) + i * 7) % VOCABULARY


def collate(samples: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """A pack as one row: positions begin anew with each sample, and no sample learns to predict the next one's first token."""
    labels = [torch.cat([torch.tensor([-100]), s[1:]]) for s in samples]
    return {
        "input_ids": torch.cat(samples)[None],
        "labels": torch.cat(labels)[None],
        "position_ids": torch.cat([torch.arange(len(s)) for s in samples])[None],
    }


class BalancedLoader(DataLoader):
    """A DataLoader that tells its sampler of the epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


class BalancedTrainer(Trainer):
    def __init__(self, *, caps: dict[str, int], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.caps = caps

    def get_train_dataloader(self) -> DataLoader:
        args, data = self.args, self.train_dataset
        sampler = BalancedBatchSampler(
            data.sizes,
            self.caps,
            names=list(self.caps),
            rank=args.process_index,
            world_size=args.world_size,
            packs_per_step=args.world_size * args.gradient_accumulation_steps,
            equal_epochs=int(np.ceil(args.num_train_epochs)),
            seed=args.data_seed if args.data_seed is not None else args.seed,
        )
        return BalancedLoader(
            data, batch_sampler=sampler, collate_fn=self.data_collator, num_workers=args.dataloader_num_workers
        )


def main(words: list[str] | None = None) -> Trainer:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder for checkpoints")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=-1, help="optimizer steps; by default those of the epochs")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    options = parser.parse_args(words)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    trainer = BalancedTrainer(
        caps=CAPS,
        model=LlamaForCausalLM(config),
        args=TrainingArguments(
            output_dir=options.out,
            num_train_epochs=options.epochs,
            max_steps=options.steps,
            gradient_accumulation_steps=2,
            dataloader_num_workers=1,
            learning_rate=1e-2,
            save_steps=5,
            logging_steps=5,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
        ),
        train_dataset=MadeUpTexts(options.samples),
        data_collator=collate,
    )
    trainer.train(resume_from_checkpoint=options.resume)
    return trainer


if __name__ == "__main__":
    main()
