"""Random tiny models of transformers, random batches for them, and what transformers computes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCAB = 97
IMAGE_TOKEN = 5
TOKENS_PER_TILE = 4
IMAGE_SIZE = 16

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}


@dataclass
class Sample:
    """One conversation: tiles of each of its pictures, and its number of text tokens."""

    num_text: int
    tiles: list[int] = field(default_factory=list)


@dataclass
class Batch:
    """Packed samples as the trainer gets them."""

    token_ids: torch.Tensor
    cu_seqlens: torch.Tensor
    is_target: torch.Tensor
    pixels: torch.Tensor | None

    def segments(self) -> list[tuple[int, int]]:
        cu = self.cu_seqlens.tolist()
        return list(zip(cu, cu[1:]))

    def tensors(self) -> dict[str, torch.Tensor]:
        named = {"token_ids": self.token_ids, "cu_seqlens": self.cu_seqlens, "is_target": self.is_target}
        return named if self.pixels is None else {**named, "pixels": self.pixels}


def text_settings(family: str, **overrides: Any):
    """A tiny configuration with grouped-query attention."""
    settings: dict[str, Any] = dict(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        initializer_range=0.2,
        **({"head_dim": 12} if family == "qwen3" else {}),
    )
    return FAMILIES[family][0](**{**settings, **overrides})


def make_text_model(family: str, **overrides: Any) -> PreTrainedModel:
    return randomise(FAMILIES[family][1](text_settings(family, **overrides)))


def make_internvl(
    family: str,
    vision: dict[str, Any] | None = None,
    text: dict[str, Any] | None = None,
    **overrides: Any,
) -> PreTrainedModel:
    vision_settings: dict[str, Any] = dict(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        image_size=IMAGE_SIZE,
        patch_size=4,
        attention_bias=True,
        layer_scale_init_value=0.7,
        initializer_range=0.2,
    )
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**{**vision_settings, **(vision or {})}),
        text_config=text_settings(family, **(text or {})),
        **{"image_token_id": IMAGE_TOKEN, "image_seq_length": TOKENS_PER_TILE, **overrides},
    )
    return randomise(InternVLForConditionalGeneration(config))


def randomise(model: PreTrainedModel) -> PreTrainedModel:
    """Random values also where transformers starts from zeros or ones: a swapped or forgotten weight shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() <= 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif not parameter.any():
                parameter.normal_(0.0, 0.3)
    return model.eval()


def make_batch(samples: list[Sample], with_pixels: bool = True) -> Batch:
    """Random tokens; pictures lie between text; the last third of each sample is the loss."""
    tokens, targets, cu = [], [], [0]
    for sample in samples:
        ids = torch.randint(IMAGE_TOKEN + 1, VOCAB, (sample.num_text,)).tolist()
        for index, tiles in enumerate(sample.tiles):
            place = (index + 1) * sample.num_text // (len(sample.tiles) + 1)
            place += sum(sample.tiles[:index]) * TOKENS_PER_TILE
            ids[place:place] = [IMAGE_TOKEN] * (tiles * TOKENS_PER_TILE)
        tokens += ids
        first = max(1, len(ids) - len(ids) // 3)
        targets += [int(place >= first and token != IMAGE_TOKEN) for place, token in enumerate(ids)]
        cu.append(len(tokens))
    num_tiles = sum(sum(sample.tiles) for sample in samples)
    pixels = torch.randn(num_tiles, 3, IMAGE_SIZE, IMAGE_SIZE) if with_pixels else None
    return Batch(torch.tensor(tokens), torch.tensor(cu), torch.tensor(targets), pixels)


def reference_logits(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """[T, V]: every sample by itself, so that neither padding nor masks are involved."""
    rows, next_tile = [], 0
    for begin, end in batch.segments():
        ids = batch.token_ids[begin:end]
        inputs: dict[str, torch.Tensor] = {"input_ids": ids[None]}
        num_tiles = int((ids == IMAGE_TOKEN).sum()) // TOKENS_PER_TILE
        if batch.pixels is not None and num_tiles:
            inputs["pixel_values"] = batch.pixels[next_tile : next_tile + num_tiles].to(model.dtype)
            next_tile += num_tiles
        rows.append(model(**inputs).logits[0])
    return torch.cat(rows)


def reference_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Mean token loss over all targets of the batch."""
    places = batch.is_target.nonzero()[:, 0]
    logits = reference_logits(model, batch)[places - 1]
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.nn.functional.cross_entropy(wide, batch.token_ids[places])


def reference_steps(model: PreTrainedModel, batch: Batch, num_steps: int, lr: float, weight_decay: float) -> torch.Tensor:
    """The losses before each of `num_steps` AdamW updates of a copy of the model."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = reference_loss(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def save_model(model: PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    # A tokenizer's file, to see it carried along.
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    return folder
