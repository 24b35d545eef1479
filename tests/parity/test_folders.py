"""Weights through Hugging Face folders, other layouts, generation, bfloat16, recompute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, InternVLForConditionalGeneration, PreTrainedModel

from model_cases import IMAGE_TOKEN, Sample, make_batch, make_internvl, make_text_model, reference_logits, save_model
from parity_tool import check_parity, distance, run_tool

PACKED = [Sample(15, [1]), Sample(6), Sample(18, [2, 1])]
TEXT = [Sample(17), Sample(5), Sample(9)]


def both_kinds() -> list[tuple[str, PreTrainedModel, list[Sample]]]:
    return [("internvl", make_internvl("qwen3"), PACKED), ("text", make_text_model("llama", tie_word_embeddings=True), TEXT)]


@pytest.mark.parametrize("index", [0, 1])
def test_saved_folder_is_the_same_bit_for_bit(index: int, tmp_path: Path) -> None:
    _, model, samples = both_kinds()[index]
    folder = save_model(model, tmp_path / "model")
    run_tool(folder, make_batch(samples, with_pixels=index == 0), "--save", tmp_path / "again")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "again" / "model.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (tmp_path / "again" / "tokenizer.json").read_text() == "{}"
    auto = InternVLForConditionalGeneration if index == 0 else AutoModelForCausalLM
    loaded = dict(auto.from_pretrained(tmp_path / "again").named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(loaded[name], parameter), name


RENAMED = {
    "modules": [
        ("language_model.lm_head.", "lm_head."),
        ("language_model.model.", "model.language_model."),
        ("vision_tower.", "model.vision_tower."),
        ("multi_modal_projector.", "model.multi_modal_projector."),
    ],
    "early": [("language_model.lm_head.", "lm_head."), ("language_model.model.", "language_model.")],
}


@pytest.mark.parametrize("layout", RENAMED)
def test_other_published_layouts(layout: str, tmp_path: Path) -> None:
    model = make_internvl("qwen2", tie_word_embeddings=False)
    folder = save_model(model, tmp_path / "model")
    batch = make_batch(PACKED)
    expected = run_tool(folder, batch)["logits"]
    renamed = {}
    for name, values in load_file(folder / "model.safetensors").items():
        for old, new in RENAMED[layout]:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        renamed[name] = values
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.equal(run_tool(folder, batch)["logits"], expected)


@pytest.mark.parametrize("index", [0, 1])
def test_recompute_and_chunks_change_nothing(index: int, tmp_path: Path) -> None:
    _, model, samples = both_kinds()[index]
    folder = save_model(model, tmp_path / "model")
    batch = make_batch(samples, with_pixels=index == 0)
    kept, again = run_tool(folder, batch), run_tool(folder, batch, "--recompute")
    chunked = run_tool(folder, batch, "--chunk-rows", 3)
    for name, values in kept.items():
        assert torch.equal(values, again[name]), name
        # Sums in another order: a few roundings of float32, more where terms cancel.
        assert torch.allclose(values, chunked[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("index", [0, 1])
def test_packing_changes_nothing_in_float64(index: int, tmp_path: Path) -> None:
    _, model, samples = both_kinds()[index]
    folder = save_model(model, tmp_path / "model")
    batch = make_batch(samples, with_pixels=index == 0)
    packed = run_tool(folder, batch, "--dtype", "float64")
    rows, next_tile = [], 0
    for begin, end in batch.segments():
        part = make_batch([Sample(end - begin)], with_pixels=False)
        part.token_ids, part.is_target = batch.token_ids[begin:end].clone(), batch.is_target[begin:end].clone()
        tiles = int((part.token_ids == IMAGE_TOKEN).sum()) // 4
        if batch.pixels is not None:
            part.pixels = batch.pixels[next_tile : next_tile + tiles].clone()
            next_tile += tiles
        rows.append(run_tool(folder, part, "--dtype", "float64")["logits"])
    assert distance(packed["logits"], torch.cat(rows)) < 1e-13
    reference = reference_logits(model.double(), batch).detach()
    # transformers keeps norms and rotary angles in float32 in its float64 runs.
    assert distance(packed["logits"], reference) < 1e-5


@pytest.mark.parametrize("index", [0, 1])
def test_bfloat16(index: int, tmp_path: Path) -> None:
    _, model, samples = both_kinds()[index]
    folder = save_model(model, tmp_path / "model")
    batch = make_batch(samples, with_pixels=index == 0)
    exact = run_tool(folder, batch)
    ours = run_tool(folder, batch, "--dtype", "bfloat16", "--steps", 3)
    theirs = reference_logits(model.to(torch.bfloat16), batch).detach().float()
    # bfloat16 rounds at 2^-8. Ours may not be further from the exact result than transformers' is, up to luck.
    limit = max(1.5 * distance(theirs, exact["logits"]), 2.0**-7)
    assert distance(ours["logits"], exact["logits"]) <= limit
    assert distance(ours["loss"], exact["loss"]) <= 2.0**-6
    for name in exact:
        if name.startswith("grad.") and float(exact[name].norm()) > 1e-3:
            assert distance(ours[name], exact[name]) < 0.25, name
    assert bool((ours["step_losses"][1:] < ours["step_losses"][:-1]).all())


@pytest.mark.parametrize("index", [0, 1])
def test_greedy_generation(index: int, tmp_path: Path) -> None:
    """Several prompts of unlike length at once, with the cache, against transformers one by one."""
    _, model, samples = both_kinds()[index]
    folder = save_model(model, tmp_path / "model")
    batch = make_batch(samples, with_pixels=index == 0)
    generated = run_tool(folder, batch, "--generate", 20)["generated"]
    next_tile = 0
    for row, (begin, end) in enumerate(batch.segments()):
        ids = batch.token_ids[begin:end]
        inputs = {"input_ids": ids[None], "attention_mask": torch.ones_like(ids)[None]}
        tiles = int((ids == IMAGE_TOKEN).sum()) // 4
        if batch.pixels is not None and tiles:
            inputs["pixel_values"] = batch.pixels[next_tile : next_tile + tiles]
            next_tile += tiles
        answer = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, len(ids) :]
        assert generated[row].tolist() == answer.tolist()


def test_random_weights_train(tmp_path: Path) -> None:
    """Weights made from the configuration alone: the loss starts near that of a uniform guess and falls."""
    model = make_internvl("qwen2", vision={"initializer_range": 0.02}, text={"initializer_range": 0.02})
    folder = save_model(model, tmp_path / "model")
    results = run_tool(folder, make_batch(PACKED), "--random-weights", "--steps", 10)
    uniform = torch.tensor(97.0).log()
    assert abs(results["step_losses"][0] - uniform) < 0.2
    assert results["step_losses"][-1] < results["step_losses"][0] - 0.1
    again = run_tool(folder, make_batch(PACKED), "--random-weights", "--save", tmp_path / "random")
    assert again["logits"].isfinite().all()
    weights = load_file(tmp_path / "random" / "model.safetensors")
    embedding = weights["language_model.model.embed_tokens.weight"]
    assert abs(float(embedding.std()) - 0.02) < 0.001
    assert abs(float(weights["vision_tower.embeddings.position_embeddings"].std()) - 0.02) < 0.003
    assert bool((weights["language_model.model.norm.weight"] == 1).all())
