"""gimbal.arch: what Python users see, its errors, and agreement with the costs that balancing reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from arch_configs import INTERNVL_CHAT_1B, INTERNVL_CHAT_6B_20B, PUBLISHED, TINY, tiny

from gimbal import UserError, _native, arch

WORK = arch.Work(text_rows=64, text_pairs=2048, loss_rows=40, vision_rows=16, vision_pairs=256)


def test_describe_takes_content_a_file_or_a_folder(tmp_path: Path) -> None:
    config = TINY["internvl"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    models = [arch.describe(config), arch.describe(tmp_path), arch.describe(str(tmp_path / "config.json"))]
    assert models[0].blocks == models[1].blocks == models[2].blocks
    assert {model.num_parameters for model in models} == {sum(b.num_parameters for b in models[0].blocks)}


def test_errors_name_place_and_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config: key 'model_type' is 'bert'; known model types are .*qwen3_vl"):
        arch.describe({"model_type": "bert"})
    with pytest.raises(UserError, match=r"config: vision_config: key 'patch_size' must be a whole number"):
        arch.describe(tiny("internvl", vision_config__patch_size="14"))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2", "hidden_size": -1}')
    with pytest.raises(UserError, match=r"config\.json: key 'hidden_size' must be from 1"):
        arch.describe(tmp_path)
    model = arch.describe(TINY["qwen2"])
    with pytest.raises(UserError, match=r"pattern 'vision\.\*' names no block of the qwen2 model"):
        model.backward_flops(WORK, freeze=["vision.*"])
    with pytest.raises(UserError, match=r"recompute level 'all' is not known; levels are keep, attention, mlp, full"):
        model.saved_values(1, WORK, "all")  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        model.cut_values(6, WORK)


def test_known_types_can_be_described() -> None:
    for kind in arch.known_model_types():
        if kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "mistral", "internvl_chat"):
            continue  # their defaults do not fit together, or need a window; test_arch_parameters has them
        assert arch.describe({"model_type": kind}).num_parameters > 10**9


def test_work_adds_up() -> None:
    model = arch.describe(TINY["qwen2_5_vl"])
    first = arch.Work.of_texts([20, 30], loss_rows=25, images=[64])
    second = arch.Work.of_texts([40], loss_rows=11, images=[16, 16])
    both = first + second
    assert both == arch.Work.of_texts([20, 30, 40], loss_rows=36, images=[64, 16, 16])
    assert model.training_flops(both) == pytest.approx(model.training_flops(first) + model.training_flops(second))
    for i in range(len(model.blocks)):
        assert model.cut_values(i, both) == pytest.approx(model.cut_values(i, first) + model.cut_values(i, second))


@pytest.mark.parametrize("name", TINY)
def test_levels_trade_values_for_work(name: str) -> None:
    model = arch.describe(TINY[name])
    forward = model.block_forward_flops(WORK)
    for i, block in enumerate(model.blocks):
        assert model.recompute_flops(i, WORK, "keep") == 0
        assert model.recompute_flops(i, WORK, "full") == pytest.approx(forward[i])
        if len(block.recompute_levels) == 4:
            parts = [model.recompute_flops(i, WORK, level) for level in ("attention", "mlp")]
            assert sum(parts) == pytest.approx(forward[i])
        saved = [model.saved_values(i, WORK, level) for level in block.recompute_levels]
        assert saved[0] == max(saved) and saved[-1] == min(saved)


_TYPES = ("qwen2", "qwen3", "llama", "internvl")
_COSTED = {name: config for name, config in PUBLISHED.items() if config["model_type"] in _TYPES}
_COSTED |= {"6B + 20B": INTERNVL_CHAT_6B_20B, "chat 1B": INTERNVL_CHAT_1B}


@pytest.mark.parametrize("name", _COSTED)
def test_balance_reads_the_same_costs(name: str, tmp_path: Path) -> None:
    """Balancing has its own reader of config.json; both count forward work alike."""
    (tmp_path / "config.json").write_text(json.dumps(_COSTED[name]))
    model = arch.describe(tmp_path)
    streams = ["tokens", "tiles"] if model.vision_row else ["tokens"]
    costs = _native.model_costs(tmp_path, streams, 1.0)
    per_row = model.forward_flops(arch.Work(text_rows=1, loss_rows=1))
    assert costs[0] == pytest.approx((per_row, model.forward_flops(arch.Work(text_pairs=1))))
    if model.vision_row:
        assert costs[1] == pytest.approx((model.forward_flops(arch.Work(vision_rows=1)), 0))
