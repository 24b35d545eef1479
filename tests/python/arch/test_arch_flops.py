"""Floating-point work against torch's counter on transformers' models with eager attention, forward and backward.

transformers computes all pairs of attention and all rows of the head, where we count the causal half and the loss rows:
the work that the cases state has twice the pairs and all rows (reference_model). The figures are then equal to the last
operation: norms, activations and rotations, which we leave out, hold no products that torch counts.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from arch_configs import TINY, tiny
from reference_model import Case, Config, build, counted_flops, patch_case, text_case, tile_case

from gimbal import arch


def _case(config: Config) -> Case:
    kind = config["model_type"]
    if "vision_config" not in config:
        return text_case([48, 48])
    if kind in ("internvl", "llava"):
        return tile_case(config, tiles=3, tokens_per_tile=config["image_seq_length"], length=72)
    return patch_case(config, grids=[(8, 8), (12, 8)], length=64)


def _parameters_of(model_type: str) -> Callable[[str], bool]:
    tower = "model.visual." if model_type.startswith("qwen") else "model.vision_tower."
    projector = ("model.visual.merger.", "model.multi_modal_projector.")
    return lambda name: name.startswith(tower) and not name.startswith(projector)


@pytest.mark.parametrize("name", TINY)
def test_forward_and_backward_equal_the_counter(name: str) -> None:
    model = arch.describe(TINY[name])
    case = _case(TINY[name])
    forward, backward = counted_flops(build(TINY[name], device="cpu"), case)
    assert model.forward_flops(case.work) == forward
    assert model.backward_flops(case.work) == backward


@pytest.mark.parametrize("name", ["internvl", "internvl, rms norms", "llava", "qwen2_vl", "qwen2_5_vl"])
def test_a_frozen_tower_has_no_backward(name: str) -> None:
    config = TINY[name]
    model = arch.describe(config)
    case = _case(config)
    reference = build(config, device="cpu")
    in_tower = _parameters_of(config["model_type"])
    for parameter_name, parameter in reference.named_parameters():
        parameter.requires_grad_(not in_tower(parameter_name))
    _, backward = counted_flops(reference, case)
    expected = model.backward_flops(case.work, freeze=["vision.*"])
    if name == "llava":
        # The first product behind the tower has no norm in front: torch skips its input gradient, we count it.
        expected -= 2 * 3 * 16 * 48 * 64
    assert expected == backward


def test_a_frozen_language_model_hands_gradients_on() -> None:
    config = TINY["internvl"]
    model = arch.describe(config)
    case = _case(config)
    reference = build(config, device="cpu")
    for name, parameter in reference.named_parameters():
        parameter.requires_grad_(not name.startswith(("model.language_model.", "lm_head.")))
    _, backward = counted_flops(reference, case)
    assert model.backward_flops(case.work, freeze=["text.*"]) == backward


def test_a_frozen_model_has_no_backward() -> None:
    model = arch.describe(TINY["qwen2_vl"])
    assert model.backward_flops(_case(TINY["qwen2_vl"]).work, freeze=["*"]) == 0


def test_layers_behind_the_feature_layer_run_without_backward() -> None:
    model = arch.describe(tiny("llava", vision_feature_layer=-3))
    work = _case(TINY["llava"]).work
    unused = [i for i, block in enumerate(model.blocks) if block.unused]
    assert [model.blocks[i].name for i in unused] == ["vision.3", "vision.4"]
    assert all(model.block_forward_flops(work)[i] > 0 for i in unused)
    assert all(model.block_backward_flops(work)[i] == 0 for i in unused)
    forward, backward = counted_flops(build(tiny("llava", vision_feature_layer=-3), device="cpu"), _case(TINY["llava"]))
    assert model.forward_flops(work) == forward
    assert model.backward_flops(work) == backward


def test_windows_are_counted_full() -> None:
    """8 x 8 and 12 x 8 patches are whole windows of 4 x 4; a picture of 6 x 6 has smaller ones at its border."""
    config = TINY["qwen2_5_vl"]
    model = arch.describe(config)
    assert [b.cost_class for b in model.blocks[1:5]] == ["vision_window_layer", "vision_layer"] * 2
    case = patch_case(config, grids=[(6, 6)], length=40)
    forward, _ = counted_flops(build(config, device="cpu"), case)
    # Windows of 16, 8, 8 and 4 patches: 16^2 + 2 x 8^2 + 4^2 pairs in place of 36 x 16, in two layers.
    extra = 2 * 4 * 32 * (36 * 16 - (16 * 16 + 2 * 8 * 8 + 4 * 4))
    assert model.forward_flops(case.work) - extra == forward


def test_causal_attention_counts_half_of_the_pairs() -> None:
    model = arch.describe(TINY["qwen2"])
    causal = arch.Work.of_texts([48, 32], loss_rows=70)
    assert causal == arch.Work(text_rows=80, text_pairs=48 * 48 + 32 * 32, loss_rows=70)
    layers, rows = TINY["qwen2"]["num_hidden_layers"], causal.text_rows
    layer = 2 * 64 * (64 + 32 + 32 + 64) + 2 * 3 * 64 * 160
    expected = layers * (rows * layer + 2 * 64 * causal.text_pairs) + 70 * 2 * 64 * 320
    assert model.forward_flops(causal) == expected
    assert model.training_flops(causal) == 3 * expected
