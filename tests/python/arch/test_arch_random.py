"""Parameters and work of models with random sizes and switches against transformers, exactly."""

from __future__ import annotations

from typing import Any

from arch_configs import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_model import Config, build, counted_flops, num_parameters, text_case, tile_case

from gimbal import arch

_SETTINGS = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
_FLAG = st.booleans()


@st.composite
def _text(draw: st.DrawFn, family: str) -> Config:
    kv_heads, head_dim = draw(st.integers(1, 3)), draw(st.sampled_from([8, 12]))
    heads = kv_heads * draw(st.integers(1, 3))
    fixed_kv = family in ("mistral", "qwen3_moe")  # no null there
    config: Config = {
        "model_type": family,
        "hidden_size": heads * head_dim,
        "intermediate_size": draw(st.integers(5, 90)),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads if fixed_kv else draw(st.sampled_from([kv_heads, None])),
        "vocab_size": draw(st.integers(300, 400)),
        "max_position_embeddings": 128,
        "tie_word_embeddings": draw(_FLAG),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "sliding_window": None,
    }
    if family in ("llama", "qwen3", "qwen3_moe"):
        config["attention_bias"] = draw(_FLAG)
    if family in ("llama", "mistral", "qwen3") and draw(_FLAG):
        config["head_dim"] = draw(st.sampled_from([4, 16, 20]))
    if family == "llama":
        config["mlp_bias"] = draw(_FLAG)
    if family == "qwen3_moe":
        config["head_dim"] = head_dim
        config["num_experts"] = draw(st.integers(2, 5))
        config["num_experts_per_tok"] = draw(st.integers(1, 2))
        config["moe_intermediate_size"] = draw(st.integers(5, 40))
        config["decoder_sparse_step"] = draw(st.integers(1, 2))
        config["mlp_only_layers"] = draw(st.sampled_from([[], [0]]))
    return config


_ANY_TEXT = st.sampled_from(["llama", "mistral", "qwen2", "qwen3", "qwen3_moe"]).flatmap(_text)


def _tower(draw: st.DrawFn) -> Config:
    heads = draw(st.integers(1, 4))
    return {
        "hidden_size": 8 * heads,
        "intermediate_size": draw(st.integers(5, 60)),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "num_attention_heads": heads,
        "image_size": draw(st.sampled_from([28, 56])),
        "patch_size": 7,
    }


@st.composite
def _internvl(draw: st.DrawFn) -> Config:
    tower = _tower(draw) | {
        "norm_type": draw(st.sampled_from(["layer_norm", "rms_norm"])),
        "use_qk_norm": draw(_FLAG),
        "attention_bias": draw(_FLAG),
        "use_mean_pooling": draw(_FLAG),
        "use_absolute_position_embeddings": draw(_FLAG),
    }
    ratio = draw(st.sampled_from([1.0, 0.5, 0.25]))
    text = draw(st.sampled_from(["llama", "qwen2", "qwen3"]).flatmap(_text))
    return tiny("internvl", text_config=text, vision_config=tower, tie_word_embeddings=draw(_FLAG)) | {
        "downsample_ratio": ratio,
        "image_seq_length": int((tower["image_size"] // 7 * ratio) ** 2),
    }


@st.composite
def _llava(draw: st.DrawFn) -> Config:
    tower = _tower(draw)
    strategy = draw(st.sampled_from(["default", "full"]))
    text = draw(st.sampled_from(["llama", "mistral", "qwen2"]).flatmap(_text))
    changes: dict[str, Any] = {"text_config": text, "vision_config": {"model_type": "clip_vision_model", **tower}}
    return tiny("llava", **changes) | {
        "vision_feature_layer": draw(st.integers(-tower["num_hidden_layers"], -1)),
        "vision_feature_select_strategy": strategy,
        "multimodal_projector_bias": draw(_FLAG),
        "image_seq_length": (tower["image_size"] // 7) ** 2 + (strategy == "full"),
    }


@_SETTINGS
@given(_ANY_TEXT, st.integers(1, 3), st.integers(2, 40))
def test_random_text_models(config: Config, samples: int, length: int) -> None:
    model, reference = arch.describe(config), build(config, device="cpu")
    case = text_case([length] * samples)
    forward, backward = counted_flops(reference, case)
    assert model.num_parameters == num_parameters(reference)
    assert model.forward_flops(case.work) == forward
    assert model.backward_flops(case.work) == backward


@_SETTINGS
@given(_internvl() | _llava(), st.integers(1, 2))
def test_random_vision_models(config: Config, tiles: int) -> None:
    model, reference = arch.describe(config), build(config, device="cpu")
    tokens = config["image_seq_length"]
    case = tile_case(config, tiles=tiles, tokens_per_tile=tokens, length=tiles * tokens + 5)
    forward, backward = counted_flops(reference, case)
    assert model.tokens_per_vision_row == tokens
    assert model.num_parameters == num_parameters(reference)
    assert model.forward_flops(case.work) == forward
    assert model.backward_flops(case.work) == backward
