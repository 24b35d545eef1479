"""Plain text models against transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model_cases import Sample, make_batch, make_text_model, save_model
from parity_tool import check_parity

LENGTHS = {
    "one": [Sample(23)],
    "several": [Sample(9), Sample(31), Sample(2), Sample(30), Sample(29), Sample(1)],
}
ROPE: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn_mscale": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "mscale": 0.7,
        "mscale_all_dim": 1.1,
        "beta_fast": 20.0,
        "beta_slow": 2.0,
        "truncate": False,
    },
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
}


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("tied", [False, True])
def test_family(family: str, lengths: str, tied: bool, tmp_path: Path) -> None:
    model = make_text_model(family, tie_word_embeddings=tied)
    folder = save_model(model, tmp_path / "model")
    check_parity(model, folder, make_batch(LENGTHS[lengths], with_pixels=False), num_steps=10)


@pytest.mark.parametrize("kind", ROPE)
def test_rope_scaling(kind: str, tmp_path: Path) -> None:
    model = make_text_model("llama", rope_parameters={"rope_theta": 10000.0, **ROPE[kind]}, max_position_embeddings=64)
    folder = save_model(model, tmp_path / "model")
    check_parity(model, folder, make_batch([Sample(50), Sample(7)], with_pixels=False))


def test_dynamic_rope_beyond_trained_length(tmp_path: Path) -> None:
    rope = {"rope_theta": 10000.0, **ROPE["dynamic"]}
    model = make_text_model("qwen3", rope_parameters=rope, max_position_embeddings=16)
    folder = save_model(model, tmp_path / "model")
    # transformers stretches a whole padded batch by its longest sample; one sample by itself has no such company.
    check_parity(model, folder, make_batch([Sample(41)], with_pixels=False))


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 20, "num_key_value_heads": 1}),
        ("llama", {"hidden_act": "gelu"}),
        ("qwen3", {"attention_bias": True}),
        ("qwen2", {"num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
        ("qwen2", {"hidden_act": "gelu_pytorch_tanh"}),
        # The padding token's embedding has no gradient.
        ("qwen2", {"pad_token_id": 11, "tie_word_embeddings": True}),
    ],
)
def test_settings(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = make_text_model(family, **settings)
    folder = save_model(model, tmp_path / "model")
    batch = make_batch(LENGTHS["several"], with_pixels=False)
    if "pad_token_id" in settings:
        batch.token_ids[3] = settings["pad_token_id"]
    check_parity(model, folder, batch)
