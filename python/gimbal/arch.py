"""A model as data: blocks, parameters, work and activations of a Hugging Face config.json, without weights.

    from gimbal import arch

    model = arch.describe("Qwen2.5-7B/config.json")
    model.num_parameters                                    # 7615616512
    work = arch.Work.of_texts([4096], loss_rows=4095)
    model.training_flops(work) / 1e12

A multiply-add counts 2. Causal attention counts the half of the pairs that it needs; a library that computes all pairs
does twice the pair term, which doubling `text_pairs` gives. Norms, activations, rotations and lookups count nothing.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Literal

from gimbal import UserError, _native

Level = Literal["keep", "attention", "mlp", "full"]

__all__ = ["Block", "Level", "Model", "Part", "Work", "describe", "known_model_types"]


@dataclass(frozen=True)
class Work:
    """Rows that a micro-batch brings. Sizes of several micro-batches add up."""

    text_rows: float = 0  # tokens, visual ones included
    text_pairs: float = 0  # sum over samples of rows^2
    loss_rows: float = 0  # rows that the head computes
    vision_rows: float = 0  # tiles or patches, see Model.vision_row
    vision_pairs: float = 0  # sum over images of rows^2; only where rows are patches

    @classmethod
    def of_texts(
        cls, lengths: Iterable[float], *, loss_rows: float, vision_rows: float = 0, images: Iterable[float] = ()
    ) -> Work:
        """Work of samples of these lengths; `images`: patches of each image, where rows are patches."""
        lengths, images = list(lengths), list(images)
        return cls(
            text_rows=sum(lengths),
            text_pairs=sum(n * n for n in lengths),
            loss_rows=loss_rows,
            vision_rows=vision_rows or sum(images),
            vision_pairs=sum(n * n for n in images),
        )

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Part:
    """A sequential part of a block: attention, then feed-forward, or all of it. Values per row of the block's kind."""

    name: str
    product_flops_per_row: float
    attention_flops_per_row: float
    attention_flops_per_pair: float
    input_values_per_row: float
    saved_values_per_row: float


@dataclass(frozen=True)
class Block:
    """What a plan cuts, recomputes and shards; see src/gimbal/arch/model_desc.h."""

    name: str
    kind: str
    cost_class: str
    num_parameters: int
    num_expert_parameters: int
    parts: tuple[Part, ...]
    output_values_per_row: float
    carried_values_per_vision_row: float
    tensor_reductions: int
    exchanged_values_per_row: float
    dispatched_values_per_row: float
    unused: bool
    recompute_levels: tuple[Level, ...]


class Model:
    """The description of one model. Made by `describe`."""

    def __init__(self, native: _native.ModelDesc) -> None:
        self._native = native
        self.type: str = native.type
        self.vision_row: str = native.vision_row  # "tile", "patch", or "" for a text model
        self.num_parameters: int = native.num_parameters
        sizes = native.sizes
        self.tokens_per_vision_row: float = sizes["tokens_per_vision_row"]
        self.vocab_size: int = sizes["vocab_size"]
        self.max_positions: int = sizes["max_positions"]
        self.tied_embeddings: bool = sizes["tied_embeddings"]
        self.text_heads: int = sizes["text_heads"]
        self.text_kv_heads: int = sizes["text_kv_heads"]
        self.text_ffn: int = sizes["text_ffn"]
        self.vision_heads: int = sizes["vision_heads"]
        self.vision_ffn: int = sizes["vision_ffn"]
        self.num_experts: int = sizes["num_experts"]
        self.blocks: tuple[Block, ...] = tuple(_block(block) for block in native.blocks)

    def frozen(self, patterns: Iterable[str]) -> list[bool]:
        """Which blocks the patterns name ("vision.*"). Raises UserError for a pattern that names none."""
        patterns = list(patterns)
        for pattern in patterns:
            if not any(fnmatch.fnmatchcase(block.name, pattern) for block in self.blocks):
                raise UserError(
                    f"freeze: pattern '{pattern}' names no block of the {self.type} model; its blocks are called like "
                    f"{self.blocks[0].name}, {self.blocks[-1].name} ('*' stands for any characters)"
                )
        return [any(fnmatch.fnmatchcase(block.name, p) for p in patterns) for block in self.blocks]

    def block_forward_flops(self, work: Work) -> list[float]:
        return [self._native.forward_flops(i, astuple(work)) for i in range(len(self.blocks))]

    def block_backward_flops(self, work: Work, freeze: Sequence[str] = ()) -> list[float]:
        return self._native.backward_flops(astuple(work), self.frozen(freeze))

    def forward_flops(self, work: Work) -> float:
        return sum(self.block_forward_flops(work))

    def backward_flops(self, work: Work, freeze: Sequence[str] = ()) -> float:
        return sum(self.block_backward_flops(work, freeze))

    def training_flops(self, work: Work, freeze: Sequence[str] = ()) -> float:
        """Forward and backward without recompute (model FLOPs)."""
        return self.forward_flops(work) + self.backward_flops(work, freeze)

    def recompute_flops(self, block: int, work: Work, level: Level) -> float:
        """Forward work of the block that backward does again."""
        return self._native.recompute_flops(block, astuple(work), level)

    def saved_values(self, block: int, work: Work, level: Level = "keep") -> float:
        """Activation values of the block that are kept from forward to backward."""
        return self._native.saved_values(block, astuple(work), level)

    def cut_values(self, block: int, work: Work) -> float:
        """Values that a pipeline cut after the block sends forward."""
        return self._native.cut_values(block, astuple(work))


def describe(config: Mapping[str, Any] | str | os.PathLike[str]) -> Model:
    """Describes the model of a config.json: its content, its path, or the folder that holds it.

    Raises UserError for an unknown model_type and for settings that change parameters or work and are not known.
    """
    if isinstance(config, Mapping):
        return Model(_native.describe_model(json.dumps(dict(config)), "config"))
    return Model(_native.describe_model_file(config))


def known_model_types() -> list[str]:
    """Values of model_type that `describe` knows."""
    return _native.known_model_types()


def _block(values: dict[str, Any]) -> Block:
    values = dict(values)
    values["parts"] = tuple(Part(**part) for part in values["parts"])
    values["recompute_levels"] = tuple(values["recompute_levels"])
    return Block(**values)
