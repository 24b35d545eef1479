"""The two models of OmniBal's main table as config.json, and where its published cuts lie in our list of blocks.

Sizes: InternVL-Chat-V1-5 (OpenGVLab) for InternViT-6B and InternLM2-20B; Yi-34B (01-ai) for the larger text model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

INTERNVIT_6B: dict[str, Any] = {
    "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 45, "num_attention_heads": 25, "image_size": 448,
    "patch_size": 14, "qkv_bias": False, "qk_normalization": True, "norm_type": "rms_norm",
}  # fmt: skip
INTERNLM2_20B: dict[str, Any] = {
    "model_type": "internlm2", "hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 48,
    "num_attention_heads": 48, "num_key_value_heads": 8, "vocab_size": 92553, "max_position_embeddings": 32768, "bias": False,
    "tie_word_embeddings": False,
}  # fmt: skip
YI_34B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 7168, "intermediate_size": 20480, "num_hidden_layers": 60,
    "num_attention_heads": 56, "num_key_value_heads": 8, "vocab_size": 64000, "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}  # fmt: skip


def internvl(text: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "internvl_chat", "downsample_ratio": 0.5, "force_image_size": 448, "select_layer": -1,
        "vision_config": INTERNVIT_6B, "llm_config": text,
    }  # fmt: skip


CONFIGS = {"6B+20B": internvl(INTERNLM2_20B), "6B+34B": internvl(YI_34B)}

# A100 GPU days (OmniBal, arXiv 2407.20761, tables 1 and 2): nothing balanced, + data, + model, + memory.
PUBLISHED_DAYS: dict[str, tuple[float | None, ...]] = {
    "6B+20B": (61.8, 51.9, 29.0, 21.3),
    "6B+34B": (75.4, None, None, 30.5),
}
# First unit of each stage, of the 101 units of the 6B+20B model, from the authors' training configuration.
PUBLISHED_CUTS: dict[str, tuple[int, ...]] = {"6B+20B": (0, 23, 47, 72, 101)}


def blocks_of_units(cuts: Sequence[int], vision_layers: int, text_layers: int) -> tuple[int, ...]:
    """OmniBal's list of units has four more than our list of blocks: a cast to bfloat16 in front, a transpose behind the last
    layer, and a cast to float32 at the end; its pixel shuffle and MLP, word embedding, norm and head are blocks here too.

    Units: cast, vision embedding, vision layers, projector, word embedding, text layers, transpose, norm, head, cast.
    """
    units = [0, 1] + [1] * vision_layers + [1, 1] + [1] * text_layers + [0, 1, 1, 0]  # blocks in each unit
    if cuts[-1] != len(units):
        raise ValueError(f"the cuts end at {cuts[-1]}, but there are {len(units)} units")
    return tuple(sum(units[:cut]) for cut in cuts)
