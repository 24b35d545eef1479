"""Dimensions of published models as config.json content, and tiny ones that really run.

Published: the configuration files of the model pages on huggingface.co, the keys that matter for parameters and work.
"""

from __future__ import annotations

import copy
from typing import Any

Config = dict[str, Any]

QWEN25_7B: Config = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 131072, "tie_word_embeddings": False,
    "use_sliding_window": False, "sliding_window": 131072, "max_window_layers": 28,
}  # fmt: skip
QWEN25_05B: Config = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2, "vocab_size": 151674, "max_position_embeddings": 32768, "use_sliding_window": False,
}  # fmt: skip
LLAMA3_8B: Config = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "rope_theta": 500000.0,
}  # fmt: skip
MISTRAL_7B: Config = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768, "sliding_window": None,
}  # fmt: skip
QWEN3_4B: Config = {
    "model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}  # fmt: skip
QWEN3_30B_A3B: Config = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960,
    "num_experts": 128,
    "num_experts_per_tok": 8, "moe_intermediate_size": 768, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "norm_topk_prob": True,
}  # fmt: skip
INTERNVIT_300M: Config = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": [448, 448],
    "patch_size": [14, 14], "attention_bias": True, "use_qk_norm": False, "norm_type": "layer_norm",
    "use_mean_pooling": True,
}  # fmt: skip
INTERNVIT_6B: Config = {
    "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 45, "num_attention_heads": 25,
    "image_size": [448, 448], "patch_size": [14, 14], "attention_bias": False, "use_qk_norm": True,
    "norm_type": "rms_norm",
    "use_mean_pooling": True,
}  # fmt: skip
INTERNVL3_1B: Config = {
    "model_type": "internvl", "vision_config": INTERNVIT_300M, "text_config": QWEN25_05B, "image_token_id": 151667,
    "tie_word_embeddings": True,
}  # fmt: skip
INTERNVL3_8B: Config = {
    "model_type": "internvl", "vision_config": INTERNVIT_300M, "text_config": {**QWEN25_7B, "vocab_size": 151674},
    "tie_word_embeddings": False,
}  # fmt: skip
INTERNVL_6B_QWEN3: Config = {
    "model_type": "internvl", "vision_config": INTERNVIT_6B, "text_config": QWEN3_4B, "tie_word_embeddings": False,
}  # fmt: skip
INTERNVL_6B_LLAMA: Config = {
    "model_type": "internvl", "vision_config": {**INTERNVIT_6B, "use_mean_pooling": False}, "text_config": LLAMA3_8B,
    "image_token_id": 128000,
}  # fmt: skip
# The 6B + 20B model of OmniBal (arXiv 2407.20761), in OpenGVLab's original layout.
INTERNLM2_20B: Config = {
    "model_type": "internlm2", "hidden_size": 6144, "intermediate_size": 16384, "num_hidden_layers": 48,
    "num_attention_heads": 48, "num_key_value_heads": 8, "vocab_size": 92553, "max_position_embeddings": 32768,
    "bias": False,
    "tie_word_embeddings": False,
}  # fmt: skip
INTERNVL_CHAT_6B_20B: Config = {
    "model_type": "internvl_chat", "downsample_ratio": 0.5, "force_image_size": 448, "select_layer": -1,
    "llm_config": INTERNLM2_20B,
    "vision_config": {
        "hidden_size": 3200, "intermediate_size": 12800, "num_hidden_layers": 45, "num_attention_heads": 25,
        "image_size": 448,
        "patch_size": 14, "qkv_bias": False, "qk_normalization": True, "norm_type": "rms_norm",
    },
}  # fmt: skip
INTERNVL_CHAT_1B: Config = {
    "model_type": "internvl_chat", "downsample_ratio": 0.5, "force_image_size": 448, "select_layer": -1,
    "llm_config": {"architectures": ["Qwen2ForCausalLM"], **{k: v for k, v in QWEN25_05B.items() if k != "model_type"}},
    "vision_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "image_size": 448,
        "patch_size": 14, "qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm",
    },
}  # fmt: skip
LLAVA_15_7B: Config = {
    "model_type": "llava", "image_token_index": 32000, "projector_hidden_act": "gelu", "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
    "text_config": {"model_type": "llama", "max_position_embeddings": 4096, "vocab_size": 32064},
    "vision_config": {
        "model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
        "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14, "projection_dim": 768,
        "vocab_size": 32000,
    },
}  # fmt: skip
# Qwen2-VL and Qwen2.5-VL folders have the text's keys in the outer object.
QWEN2_VL_7B: Config = {
    "model_type": "qwen2_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "max_position_embeddings": 32768,
    "max_window_layers": 28, "sliding_window": 32768, "use_sliding_window": False, "tie_word_embeddings": False,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    "vision_config": {
        "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3, "hidden_size": 3584,
        "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    },
}  # fmt: skip
QWEN2_VL_2B: Config = {
    **QWEN2_VL_7B, "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12, "num_key_value_heads": 2,
    "vocab_size": 151936, "tie_word_embeddings": True, "vision_config": {**QWEN2_VL_7B["vision_config"],
    "hidden_size": 1536},
}  # fmt: skip
QWEN25_VL_7B: Config = {
    **QWEN2_VL_7B, "model_type": "qwen2_5_vl", "max_position_embeddings": 128000,
    "vision_config": {
        "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
        "in_chans": 3,
        "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2, "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31], "temporal_patch_size": 2,
    },
}  # fmt: skip
QWEN25_VL_3B: Config = {
    **QWEN25_VL_7B, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    "vision_config": {**QWEN25_VL_7B["vision_config"], "out_hidden_size": 2048},
}  # fmt: skip
QWEN3_VL_8B: Config = {
    "model_type": "qwen3_vl", "tie_word_embeddings": False,
    "text_config": {
        "model_type": "qwen3_vl_text", "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        "max_position_embeddings": 262144,
    },
    "vision_config": {
        "model_type": "qwen3_vl", "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16,
        "out_hidden_size": 4096, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24],
    },
}  # fmt: skip
QWEN3_VL_2B: Config = {
    "model_type": "qwen3_vl", "tie_word_embeddings": True,
    "text_config": {
        **QWEN3_VL_8B["text_config"], "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28,
        "num_attention_heads": 16, "tie_word_embeddings": True,
    },
    "vision_config": {
        **QWEN3_VL_8B["vision_config"], "depth": 24, "hidden_size": 1024, "intermediate_size": 4096,
        "out_hidden_size": 2048,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}  # fmt: skip

PUBLISHED: dict[str, Config] = {
    "Qwen2.5-7B": QWEN25_7B, "Llama-3-8B": LLAMA3_8B, "Mistral-7B-v0.2": MISTRAL_7B, "Qwen3-4B": QWEN3_4B,
    "Qwen3-30B-A3B": QWEN3_30B_A3B, "InternVL3-1B": INTERNVL3_1B, "InternVL3-8B": INTERNVL3_8B,
    "InternViT-6B with Qwen3-4B": INTERNVL_6B_QWEN3, "InternViT-6B with Llama-3-8B": INTERNVL_6B_LLAMA,
    "LLaVA-1.5-7B": LLAVA_15_7B, "Qwen2-VL-2B": QWEN2_VL_2B, "Qwen2-VL-7B": QWEN2_VL_7B, "Qwen2.5-VL-3B": QWEN25_VL_3B,
    "Qwen2.5-VL-7B": QWEN25_VL_7B, "Qwen3-VL-2B": QWEN3_VL_2B, "Qwen3-VL-8B": QWEN3_VL_8B,
}  # fmt: skip

TINY_TEXT: Config = {
    "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
TINY_TILE: Config = {
    "hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 56,
    "patch_size": 14,
}  # fmt: skip
_MROPE = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
_TINY_PATCH: Config = {"depth": 4, "num_heads": 4, "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2}

TINY: dict[str, Config] = {
    "llama": {"model_type": "llama", **TINY_TEXT, "attention_bias": True, "mlp_bias": True},
    "llama, own head width": {"model_type": "llama", **TINY_TEXT, "head_dim": 32, "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", **TINY_TEXT, "sliding_window": None},
    "qwen2": {"model_type": "qwen2", **TINY_TEXT},
    "qwen3": {"model_type": "qwen3", **TINY_TEXT, "head_dim": 24, "attention_bias": True},
    "qwen3_moe": {
        "model_type": "qwen3_moe", **TINY_TEXT, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
        "num_hidden_layers": 4, "decoder_sparse_step": 1, "mlp_only_layers": [1],
    },
    "qwen3_moe, every second layer": {
        "model_type": "qwen3_moe", **TINY_TEXT, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
        "num_hidden_layers": 4, "decoder_sparse_step": 2,
    },
    "internvl": {
        "model_type": "internvl", "text_config": {"model_type": "qwen2", **TINY_TEXT}, "vision_config": TINY_TILE,
        "image_token_id": 5, "image_seq_length": 4, "tie_word_embeddings": False,
    },
    "internvl, rms norms": {
        "model_type": "internvl", "text_config": {"model_type": "llama", **TINY_TEXT}, "image_token_id": 5,
        "image_seq_length": 4,
        "vision_config": {
            **TINY_TILE, "norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": True,
            "use_mean_pooling": False,
        },
    },
    "internvl, no positions": {
        "model_type": "internvl", "text_config": {"model_type": "qwen3", **TINY_TEXT, "head_dim": 16},
        "image_token_id": 5,
        "image_seq_length": 16, "downsample_ratio": 1.0,
        "vision_config": {**TINY_TILE, "use_absolute_position_embeddings": False},
    },
    "llava": {
        "model_type": "llava", "text_config": {"model_type": "llama", **TINY_TEXT}, "image_token_index": 5,
        "image_seq_length": 16, "vision_config": {"model_type": "clip_vision_model", **TINY_TILE,
        "num_hidden_layers": 5},
    },
    "llava, full features": {
        "model_type": "llava", "text_config": {"model_type": "mistral", **TINY_TEXT, "sliding_window": None},
        "image_token_index": 5, "image_seq_length": 17, "vision_feature_layer": 2,
        "vision_feature_select_strategy": "full",
        "multimodal_projector_bias": False, "vision_config": {"model_type": "clip_vision_model", **TINY_TILE},
    },
    "llava, last layer": {
        "model_type": "llava", "text_config": {"model_type": "qwen2", **TINY_TEXT, "tie_word_embeddings": True},
        "image_token_index": 5, "image_seq_length": 16, "vision_feature_layer": -1,
        "vision_config": {"model_type": "clip_vision_model", **TINY_TILE},
    },
    "qwen2_vl": {
        "model_type": "qwen2_vl", "text_config": {**TINY_TEXT, "rope_parameters": _MROPE},
        "vision_config": {**_TINY_PATCH, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 3},
        "image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 7, "vision_end_token_id": 8,
    },
    "qwen2_5_vl": {
        "model_type": "qwen2_5_vl", "text_config": {**TINY_TEXT, "rope_parameters": _MROPE,
        "tie_word_embeddings": True},
        "vision_config": {
            **_TINY_PATCH, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 72, "window_size": 56,
            "fullatt_block_indexes": [1, 3],
        },
        "image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 7, "vision_end_token_id": 8,
    },
    "qwen3_vl": {
        "model_type": "qwen3_vl", "tie_word_embeddings": False,
        "text_config": {
            **TINY_TEXT, "head_dim": 16, "tie_word_embeddings": True, "rope_parameters": {**_MROPE,
            "mrope_interleaved": True},
        },
        "vision_config": {
            **_TINY_PATCH, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 72,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 2],
        },
        "image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 7, "vision_end_token_id": 8,
    },
}  # fmt: skip


def tiny(name: str, **changes: Any) -> Config:
    """A copy of TINY[name]; a key vision_config__depth changes an inner one; a value of ... takes the key away."""
    config = copy.deepcopy(TINY[name])
    for key, value in changes.items():
        *path, last = key.split("__")
        place = config
        for step in path:
            place = place[step]
        if value is ...:
            place.pop(last, None)
        else:
            place[last] = value
    return config
