"""The InternVL family against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_cases import Batch, Sample, make_batch, make_internvl, save_model
from parity_tool import check_parity, run_tool

PICTURES = {
    "text_only": [Sample(20)],
    "1_tile": [Sample(12, [1])],
    "3_tiles": [Sample(12, [3])],
    "7_tiles": [Sample(12, [7])],
    "several_images": [Sample(20, [1, 3, 2])],
    "packed": [Sample(15, [1]), Sample(6), Sample(18, [2, 1]), Sample(11, [1])],
}


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("pictures", PICTURES)
def test_pictures(family: str, pictures: str, tmp_path: Path) -> None:
    model = make_internvl(family, tie_word_embeddings=family == "qwen2")
    folder = save_model(model, tmp_path / "model")
    check_parity(model, folder, make_batch(PICTURES[pictures]), num_steps=10 if pictures == "packed" else 0)


@pytest.mark.parametrize(
    ("vision", "top"),
    [
        ({"use_qk_norm": True, "attention_bias": False}, {}),
        ({"norm_type": "rms_norm"}, {}),
        ({"use_mean_pooling": False}, {}),
        ({"use_absolute_position_embeddings": False, "hidden_act": "gelu_pytorch_tanh"}, {}),
        ({"patch_size": 8}, {"downsample_ratio": 1.0}),
        ({"patch_size": 2}, {"downsample_ratio": 0.25, "projector_hidden_act": "relu"}),
    ],
)
def test_vision_settings(vision: dict[str, Any], top: dict[str, Any], tmp_path: Path) -> None:
    model = make_internvl("qwen2", vision=vision, tie_word_embeddings=False, **top)
    folder = save_model(model, tmp_path / "model")
    check_parity(model, folder, make_batch(PICTURES["packed"]))


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("outer", [False, True])
def test_tied_at_two_levels(inner: bool, outer: bool, tmp_path: Path) -> None:
    model = make_internvl("qwen2", text={"tie_word_embeddings": inner}, tie_word_embeddings=outer)
    folder = save_model(model, tmp_path / "model")
    check_parity(model, folder, make_batch(PICTURES["1_tile"]))


def test_text_without_pixels_at_all(tmp_path: Path) -> None:
    """A batch whose pixels are undefined is one without tiles."""
    model = make_internvl("llama")
    folder = save_model(model, tmp_path / "model")
    batch = make_batch(PICTURES["text_only"], with_pixels=False)
    check_parity(model, folder, batch)


def test_wrong_number_of_image_tokens(tmp_path: Path) -> None:
    model = make_internvl("qwen2")
    folder = save_model(model, tmp_path / "model")
    good = make_batch(PICTURES["1_tile"])
    bad = Batch(good.token_ids, good.cu_seqlens, good.is_target, good.pixels.repeat(2, 1, 1, 1))
    with pytest.raises(AssertionError, match="give 8 visual tokens but its text has places for 4"):
        run_tool(folder, bad)


def test_wider_model(tmp_path: Path) -> None:
    """Products large enough for every kernel that the small ones do not reach."""
    text = {"hidden_size": 128, "intermediate_size": 256, "max_position_embeddings": 512, "initializer_range": 0.05}
    vision = {"hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 192, "initializer_range": 0.05}
    model = make_internvl("qwen2", vision=vision, text=text, tie_word_embeddings=False)
    folder = save_model(model, tmp_path / "model")
    samples = [Sample(150, [5, 4]), Sample(90, [9]), Sample(60), Sample(140, [3])]
    check_parity(model, folder, make_batch(samples), num_steps=10)
