"""Parameter counts against transformers, exactly: whole models and blocks, published sizes and tiny variants."""

from __future__ import annotations

import pytest
from arch_configs import (
    INTERNLM2_20B,
    INTERNVL3_1B,
    INTERNVL3_8B,
    INTERNVL_CHAT_1B,
    INTERNVL_CHAT_6B_20B,
    LLAMA3_8B,
    PUBLISHED,
    TINY,
    tiny,
)
from reference_model import Config, build, num_parameters

from gimbal import arch

# Prefixes of each block's parameters in transformers' names; {} is the layer.
_TEXT = {"text.embed": ["embed_tokens."], "text.{}": ["layers.{}."], "text.norm": ["norm."]}
_TILES = {"vision.embed": ["embeddings."], "vision.{}": ["encoder.layer.{}."]}
_LAYOUTS: dict[str, dict[str, list[str]]] = {
    "qwen2": {k: [f"model.{p}" for p in v] for k, v in _TEXT.items()} | {"text.head": ["lm_head."]},
    "internvl": {k: [f"model.language_model.{p}" for p in v] for k, v in _TEXT.items()}
    | {k: [f"model.vision_tower.{p}" for p in v] for k, v in _TILES.items()}
    | {"projector": ["model.multi_modal_projector.", "model.vision_tower.layernorm."], "text.head": ["lm_head."]},
    "llava": {k: [f"model.language_model.{p}" for p in v] for k, v in _TEXT.items()}
    | {
        "vision.embed": ["model.vision_tower.embeddings.", "model.vision_tower.pre_layrnorm."],
        "vision.{}": ["model.vision_tower.encoder.layers.{}."],
        "projector": ["model.multi_modal_projector."],
        "text.head": ["lm_head."],
    },
    "qwen3_vl": {k: [f"model.language_model.{p}" for p in v] for k, v in _TEXT.items()}
    | {
        "vision.embed": ["model.visual.patch_embed.", "model.visual.pos_embed."],
        "vision.{}": ["model.visual.blocks.{}."],
        "projector": ["model.visual.merger."],
        "text.head": ["lm_head."],
    },
}
_LAYOUTS |= {name: _LAYOUTS["qwen2"] for name in ("llama", "mistral", "qwen3", "qwen3_moe")}
_LAYOUTS |= {name: _LAYOUTS["qwen3_vl"] for name in ("qwen2_vl", "qwen2_5_vl")}


def _prefixes(block: str, config: Config) -> tuple[str, ...]:
    stem, _, last = block.rpartition(".")
    layout = _LAYOUTS[config["model_type"]]
    known = layout.get(block) or [p.format(last) for p in layout[f"{stem}.{{}}"]]
    vision = config.get("vision_config", {})
    if config["model_type"] == "llava" and block == f"vision.{vision['num_hidden_layers'] - 1}":
        known = [*known, "model.vision_tower.post_layernorm."]
    deepstack = vision.get("deepstack_visual_indexes", [])
    if stem == "vision" and last.isdigit() and int(last) in deepstack:
        known = [*known, f"model.visual.deepstack_merger_list.{deepstack.index(int(last))}."]
    return tuple(known)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_transformers_parameters(name: str) -> None:
    assert arch.describe(PUBLISHED[name]).num_parameters == num_parameters(build(PUBLISHED[name], device="meta"))


@pytest.mark.parametrize("name", TINY)
def test_each_block_has_transformers_parameters(name: str) -> None:
    reference = build(TINY[name], device="meta")
    model = arch.describe(TINY[name])
    expected = {block.name: num_parameters(reference, _prefixes(block.name, TINY[name])) for block in model.blocks}
    assert {block.name: block.num_parameters for block in model.blocks} == expected
    assert model.num_parameters == num_parameters(reference)


@pytest.mark.parametrize(
    "config",
    [
        *({"model_type": kind} for kind in ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "internvl", "llava")),
        {"model_type": "qwen2_vl", "text_config": {"hidden_size": 3584, "num_attention_heads": 32}},
        {"model_type": "qwen2_5_vl", "text_config": {"hidden_size": 3584, "num_attention_heads": 32}},
        {"model_type": "qwen3_vl", "text_config": {"hidden_size": 3584}},
        {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model"}},
    ],
    ids=str,
)
def test_absent_keys_have_transformers_defaults(config: Config) -> None:
    if config["model_type"] == "mistral":
        config = {**config, "sliding_window": None}
    vision = {"vision_config": {}} if config["model_type"] in ("internvl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl") else {}
    if config == {"model_type": "llava"}:
        vision = {"vision_config": None}
    assert arch.describe(config).num_parameters == num_parameters(build({**config, **vision}, device="meta"))


def test_either_name_of_a_key_is_read() -> None:
    base = arch.describe(tiny("qwen2_vl")).num_parameters
    renamed = tiny("qwen2_vl", vision_config__depth=..., vision_config__num_hidden_layers=4)
    assert arch.describe(renamed).num_parameters == base == num_parameters(build(renamed, device="meta"))
    experts = tiny("qwen3_moe", num_experts=..., num_local_experts=6)
    assert arch.describe(experts).num_parameters == num_parameters(build(experts, device="meta"))


def test_internlm2_is_llama_with_its_own_names() -> None:
    """InternLM2 is not in transformers: its layers are Llama's (wqkv is q, k and v; w1, w3, w2 the feed-forward)."""
    names = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
    as_llama = {"model_type": "llama"} | {name: INTERNLM2_20B[name] for name in [*names, "vocab_size"]}
    assert arch.describe(INTERNLM2_20B).num_parameters == num_parameters(build(as_llama, device="meta"))
    biased = {**INTERNLM2_20B, "bias": True}
    as_llama["attention_bias"] = True
    assert arch.describe(biased).num_parameters == num_parameters(build(as_llama, device="meta"))


def test_original_internvl_layout_has_the_same_blocks() -> None:
    """internvl_chat's tower and projector have transformers' shapes under other names."""
    chat = arch.describe(INTERNVL_CHAT_1B)
    same = arch.describe({**INTERNVL3_1B, "tie_word_embeddings": False})
    assert chat.blocks == same.blocks
    # InternViT-6B with 45 layers, the projector, InternLM2-20B.
    large = arch.describe(INTERNVL_CHAT_6B_20B)
    tower = 45 * (4 * 3200**2 + 2 * 3200 * 12800 + 3200 + 12800 + 3200 + 2 * 3200 + 2 * 3200 + 2 * 3200)
    embed = 3200 * (1 + 1025 + 588 + 1)
    projector = 2 * 12800 + 12800 * 6144 + 6144 + 6144 * 6144 + 6144
    assert large.num_parameters == tower + embed + projector + arch.describe(INTERNLM2_20B).num_parameters
    assert len(large.blocks) == 1 + 45 + 1 + 1 + 48 + 2
    assert large.tokens_per_vision_row == 256


def test_tied_heads_own_nothing() -> None:
    qwen3_vl = PUBLISHED["Qwen3-VL-2B"]
    for config, tied in ((INTERNVL3_1B, True), (INTERNVL3_8B, False), (LLAMA3_8B, False), (qwen3_vl, True)):
        model = arch.describe(config)
        assert model.tied_embeddings is tied
        assert (model.blocks[-1].num_parameters == 0) is tied


def test_experts_are_counted_apart() -> None:
    model = arch.describe(PUBLISHED["Qwen3-30B-A3B"])
    layer = model.blocks[1]
    assert (layer.cost_class, model.num_experts) == ("text_moe_layer", 128)
    assert layer.num_expert_parameters == 128 * 3 * 2048 * 768
    assert layer.dispatched_values_per_row == 8 * 2048
    active = model.num_parameters - sum(b.num_expert_parameters for b in model.blocks) * 120 / 128
    assert active == pytest.approx(3.35e9, rel=0.01)  # "A3B"
    dense = arch.describe(TINY["qwen3_moe"]).blocks
    assert [b.cost_class for b in dense[1:5]] == ["text_moe_layer", "text_layer", "text_moe_layer", "text_moe_layer"]
