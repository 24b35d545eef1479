"""gimbal.plan: searching, comparing, predicting and simulating plans from Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gimbal import UserError, arch
from gimbal.plan import Layout, Mesh, Plan, Planner, Search, known_hardware, pass_names

CONFIG = {
    "model_type": "internvl_chat", "downsample_ratio": 0.5, "force_image_size": 448, "select_layer": -1,
    "vision_config": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 6, "num_attention_heads": 16, "image_size": 448,
        "patch_size": 14, "qkv_bias": True, "qk_normalization": False, "norm_type": "layer_norm",
    },
    "llm_config": {
        "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 8,
        "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False,
    },
}  # fmt: skip
MESH = Mesh(pp=2, dp_shard=2)
CAPS = (4096, 8)


@pytest.fixture(scope="module")
def planner() -> Planner:
    rng = np.random.default_rng(0)
    tiles = rng.integers(1, 6, 600)
    return Planner(
        arch.describe(CONFIG), text_rows=tiles * 256 + rng.integers(20, 400, 600), vision_rows=tiles, hardware="a100-80g"
    )


def search(**choices: object) -> Search:
    return Search(**{"devices": 4, "axes": {"pp": 2, "tp": 1, "sp": 1, "dp_shard": 2}, "schedule": "1f1b", "caps": CAPS,
                     "packs_per_step": 16, **choices})  # fmt: skip


def test_finds_compares_and_predicts(planner: Planner, tmp_path: Path) -> None:
    found = planner.search(search())
    best = found.best
    assert found.top[0].data == best.data and found.explanation
    assert {entry["name"] for entry in found.passes} == set(pass_names())
    assert best.layout.stage_begin[0] == 0 and best.layout.stage_begin[-1] == len(planner.model.blocks)
    assert len(best.layout.recompute) == len(planner.model.blocks)
    assert "pp 2" in best.table()

    best.save(tmp_path / "plan.json")
    again = planner.predict(search(), Plan.load(tmp_path / "plan.json"))
    assert again.seconds == pytest.approx(best.seconds, rel=1e-9)
    for plan in planner.compare(search(), best):
        prediction = plan.data["prediction"]
        if max(prediction["peak_bytes"]) <= prediction["capacity_bytes"]:
            assert best.seconds <= plan.seconds * (1 + 1e-9), plan.data["method"]


def test_simulates_what_it_cuts(planner: Planner) -> None:
    pipeline = planner.pipeline(MESH, micro_batches=8)
    packs = planner.pack("gimbal", caps=CAPS, packs_per_step=16, packs_per_slot=2)
    assert packs.samples.sum() == 600 and len(packs.works) == len(packs.samples)
    assert packs.works[:, 0].max() <= CAPS[0] and packs.works[:, 3].max() <= CAPS[1]
    works = pipeline.whole_steps(packs.works)
    assert len(works) % 16 == 0
    bounds = pipeline.bounds(works)
    seconds = {}
    for method, recompute in (("gimbal", "knapsack"), ("gimbal", "full"), ("omnibal", "omnibal"), ("omnibal", "full"),
                              ("adapipe", "knapsack"), ("layers", "none"), ("parameters", "full")):  # fmt: skip
        layout = pipeline.cut(method, recompute, works)
        assert layout is not None
        result = pipeline.simulate(layout, works)
        parts = result.compute + result.recompute + result.communication + result.bubble + result.imbalance
        np.testing.assert_allclose(parts, result.seconds, rtol=1e-9)
        assert (result.seconds >= bounds[:, 0] * (1 - 1e-9)).all()
        assert max(result.peak_bytes) <= max(pipeline.stage_bytes(layout, works)) * (1 + 1e-9)
        seconds[method, recompute] = result.seconds.mean()
    assert seconds["gimbal", "knapsack"] < seconds["gimbal", "full"] <= seconds["parameters", "full"] * 1.01
    # Recomputing everything is a forward pass more for three.
    assert seconds["omnibal", "full"] / seconds["omnibal", "omnibal"] == pytest.approx(4 / 3, rel=0.05)


def test_random_batches_are_padded(planner: Planner) -> None:
    padded = planner.pack("random", samples_per_pack=4, packs_per_step=16)
    assert set(padded.samples) == {4}
    tokens = planner.pack("gimbal", caps=CAPS).works[:, 0].sum()
    assert padded.works[:, 0].sum() > 1.1 * tokens
    assert padded.works[:, 3].sum() == planner.pack("isf", caps=CAPS).works[:, 3].sum()


def test_levels_for_given_cuts_follow_the_memory(planner: Planner) -> None:
    works = planner.pack("gimbal", caps=CAPS, packs_per_step=16).works
    loose = planner.pipeline(MESH, micro_batches=8)
    cuts = loose.cut("layers", "full", works).stage_begin
    kept = loose.recompute(cuts, "knapsack", works)
    assert set(kept.recompute) == {"keep"}
    need, least = (max(loose.stage_bytes(layout, works)) for layout in (kept, loose.recompute(cuts, "full", works)))
    reserved = planner.pipeline(MESH, micro_batches=8, memory_bytes=1e12).capacity - 1e12
    tight = planner.pipeline(MESH, micro_batches=8, memory_bytes=(need + least) / 2 - reserved)
    some = tight.recompute(cuts, "knapsack", works)
    assert "keep" in some.recompute and set(some.recompute) != {"keep"}
    assert max(tight.stage_bytes(some, works)) <= tight.capacity
    small = planner.pipeline(MESH, micro_batches=8, memory_bytes=least / 2 - reserved)
    assert small.recompute(cuts, "knapsack", works) is None
    assert all(small.cut(method, "knapsack", works) is None for method in ("gimbal", "adapipe", "layers"))


def test_text_models_and_schedules() -> None:
    planner = Planner(arch.describe(CONFIG["llm_config"]), text_rows=np.full(64, 1000), hardware="a100-80g")
    packs = planner.pack("gimbal", caps=(2000,), packs_per_step=8)
    assert (packs.works[:, 3] == 0).all()
    for schedule in ("gpipe", "1f1b", "zb-h1"):
        pipeline = planner.pipeline(Mesh(pp=2), micro_batches=8, schedule=schedule)
        result = pipeline.simulate(pipeline.cut("gimbal", "full", packs.works), packs.works)
        assert len(result.seconds) == 4 and (result.seconds > 0).all()
    assert pipeline.block_seconds(arch.Work(text_rows=2000, loss_rows=2000)).shape == (len(planner.model.blocks), 3)


def test_says_what_is_wrong(planner: Planner, tmp_path: Path) -> None:
    assert "a100-80g" in known_hardware()
    pipeline = planner.pipeline(MESH, micro_batches=8)
    works = planner.pack("gimbal", caps=CAPS, packs_per_step=16).works[:16]
    layout = pipeline.cut("layers", "full", works)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "cut.json").write_text("{")
    model = planner.model
    bad_layout = Layout((0, 5, 5), layout.recompute)
    for call, message in (
        (lambda: Planner(model, text_rows=[5]), "either hardware .* or profile"),
        (lambda: Planner(model, text_rows=[5], hardware="a100-80g", profile="p.json"), "either hardware .* or profile"),
        (lambda: Planner(model, text_rows=[5], vision_rows=[1, 2], hardware="a100-80g"), "equally long"),
        (lambda: Planner(model, text_rows=[5], hardware="z1"), "z1"),
        (lambda: planner.pack("best"), "unknown packing method 'best'; known: gimbal, isf"),
        (lambda: planner.search(search(without={"cuts"})), "cuts"),
        (lambda: planner.search(search(axes={"dp": 4})), "no axis 'dp'; the axes are pp, dp_replicate"),
        (lambda: planner.search(search(caps=(4096, 0, 7))), "caps: 3 numbers"),
        (lambda: planner.search(search(caps=None)), "packs_per_step: needs given caps"),
        (lambda: planner.search(search(memory_bytes=float("inf"))), "memory_bytes is inf"),
        (lambda: Mesh(pp=0), "pp is 0; must be at least 1"),
        (lambda: Mesh(dp_shard=2, ep=3), "ep 3 does not divide"),
        (lambda: planner.pipeline(MESH, micro_batches=8, schedule="2f2b"), "2f2b"),
        (lambda: pipeline.cut("halves", "full", works), "unknown partition method 'halves'"),
        (lambda: pipeline.cut("layers", "half", works), "unknown recompute method 'half'"),
        (lambda: pipeline.simulate(layout, works[:3]), "3 micro-batches are no whole number of steps of 16"),
        (lambda: pipeline.simulate(layout, works[:, :2]), r"shape \(16, 2\)"),
        (lambda: pipeline.simulate(layout, -works), "at least 0"),
        (lambda: pipeline.cut("layers", "full", works[:0]), "no micro-batch"),
        (lambda: pipeline.simulate(bad_layout, works), "3 ascending places from 0 to"),
        (lambda: pipeline.simulate(Layout(layout.stage_begin, ("full",)), works), "1 levels, and the model"),
        (lambda: pipeline.simulate(Layout(layout.stage_begin, ("half",) * len(layout.recompute)), works), "level 'half'"),
        (lambda: Plan.load(tmp_path / "none.json"), "no plan"),
        (lambda: Plan.load(tmp_path / "cut.json"), "no plan"),
        (lambda: Plan.load(tmp_path / "list.json"), "not a JSON object"),
        (lambda: Plan({}), "plan"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            call()
