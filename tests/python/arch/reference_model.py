"""The same models in transformers: parameters without storage, and a real batch with its counted work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from gimbal.arch import Work

Config = dict[str, Any]
_IMAGE_TOKEN = 5


def build(config: Config, *, device: str) -> PreTrainedModel:
    """The model of `config`, with new weights on the device ("meta": none)."""
    values = {key: value for key, value in config.items() if key != "model_type"}
    reference = AutoConfig.for_model(config["model_type"], **values)
    family = AutoModelForImageTextToText if "vision_config" in config else AutoModelForCausalLM
    torch.manual_seed(0)
    with torch.device(device):
        model = family.from_config(reference, attn_implementation="eager", experts_implementation="eager")
    return model.train()


def num_parameters(model: PreTrainedModel, prefixes: tuple[str, ...] = ("",)) -> int:
    """Of all parameters whose names begin with one of the prefixes; tied ones count once."""
    return sum(p.numel() for name, p in model.named_parameters() if name.startswith(prefixes))


@dataclass
class Case:
    """One forward pass: what the model is given, and the same as work."""

    inputs: dict[str, Any]
    work: Work


def text_case(lengths: list[int]) -> Case:
    """Sequences of equal length: transformers' eager attention looks at all pairs of a padded batch."""
    assert len(set(lengths)) == 1
    ids = torch.randint(10, 300, (len(lengths), lengths[0]), generator=torch.Generator().manual_seed(0))
    return Case({"input_ids": ids, "labels": ids}, _full_pairs(lengths))


def tile_case(config: Config, *, tiles: int, tokens_per_tile: int, length: int) -> Case:
    """One sequence with `tiles` square tiles in it."""
    side = config["vision_config"]["image_size"]
    ids = torch.randint(10, 300, (1, length), generator=torch.Generator().manual_seed(0))
    ids[0, 2 : 2 + tiles * tokens_per_tile] = _IMAGE_TOKEN
    pixels = torch.randn(tiles, 3, side, side, generator=torch.Generator().manual_seed(1))
    return Case({"input_ids": ids, "labels": ids, "pixel_values": pixels}, _full_pairs([length], vision_rows=tiles))


def patch_case(config: Config, *, grids: list[tuple[int, int]], length: int) -> Case:
    """One sequence with pictures of grids[i] patches."""
    vision = config["vision_config"]
    patches = [height * width for height, width in grids]
    tokens = sum(patches) // vision["spatial_merge_size"] ** 2
    ids = torch.randint(10, 300, (1, length), generator=torch.Generator().manual_seed(0))
    place = 2
    for count in patches:
        ids[0, place] = 7  # the token in front of a picture
        place += 1
        here = count // vision["spatial_merge_size"] ** 2
        ids[0, place : place + here] = _IMAGE_TOKEN
        place += here
    assert int((ids == _IMAGE_TOKEN).sum()) == tokens and place <= length
    values = 3 * vision["temporal_patch_size"] * vision["patch_size"] ** 2
    pixels = torch.randn(sum(patches), values, generator=torch.Generator().manual_seed(1))
    inputs = {
        "input_ids": ids,
        "labels": ids,
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, height, width] for height, width in grids]),
        "mm_token_type_ids": (ids == _IMAGE_TOKEN).long(),
    }
    return Case(inputs, _full_pairs([length], images=patches))


def counted_flops(model: PreTrainedModel, case: Case) -> tuple[int, int]:
    """Forward and backward work by torch's counter."""
    forward = FlopCounterMode(display=False)
    with forward:
        loss = model(**case.inputs, use_cache=False).loss
    if not loss.requires_grad:
        return forward.get_total_flops(), 0
    backward = FlopCounterMode(display=False)
    with backward:
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


def _full_pairs(lengths: list[int], *, vision_rows: float = 0, images: list[int] | None = None) -> Work:
    """Work as transformers does it: the head computes all rows, and attention all pairs, twice the causal half."""
    rows = sum(lengths)
    work = Work.of_texts(lengths, loss_rows=rows, vision_rows=vision_rows, images=images or [])
    return work + Work(text_pairs=work.text_pairs)
