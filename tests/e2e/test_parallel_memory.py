"""What each rank holds on a mesh, beside what the run has predicted for it."""

from __future__ import annotations

import pytest
from e2e_data import make_model
from mesh_tool import mesh

# Wide enough that what is left over (loss, lengths, pictures that are read ahead) does not count.
SIZES = {
    "vision.hidden_size": 64, "vision.num_layers": 2, "vision.num_heads": 4, "vision.intermediate_size": 192,
    "text.hidden_size": 128, "text.num_layers": 4, "text.num_heads": 4, "text.num_key_value_heads": 2,
    "text.intermediate_size": 320,
}  # fmt: skip
SETTINGS = {"balance.text_cap": 1024, "balance.packs_per_step": 4, "train.max_steps": 3, "data.prefetch_packs": 1}
RESHARD = {"parallel.weights": "reshard"}
PIPELINE = {"parallel.stage_starts": ["text.1"]}
INTERLEAVED = {
    "parallel.schedule": "interleaved", "parallel.stages_per_rank": 2,
    "parallel.stage_starts": ["projector", "text.1", "text.2"],
}  # fmt: skip
CASES = {
    "one process": ({}, {}),
    "dp_shard keep": ({"dp_shard": 2}, {}),
    "dp_shard keep, one micro-batch": ({"dp_shard": 2}, {"balance.packs_per_step": 2}),
    "dp_shard reshard": ({"dp_shard": 2}, RESHARD),
    "reshard without prefetch": ({"dp_shard": 2}, {**RESHARD, "parallel.prefetch": False}),
    "reshard, full recompute, frozen vision": (
        {"dp_shard": 2}, {**RESHARD, "model.recompute": "full", "model.freeze": ["vision.*"]}
    ),
    "sp": ({"sp": 2}, {}),
    "tp": ({"tp": 2}, {}),
    "sp and tp": ({"sp": 2, "tp": 2}, {}),
    "1f1b": ({"pp": 2}, PIPELINE),
    "1f1b, full recompute": ({"pp": 2}, {**PIPELINE, "model.recompute": "full"}),
    "gpipe": ({"pp": 2}, {**PIPELINE, "parallel.schedule": "gpipe"}),
    "interleaved": ({"pp": 2}, INTERLEAVED),
    "zb-h1": ({"pp": 2}, {**PIPELINE, "parallel.schedule": "zb-h1"}),
}  # fmt: skip
QUICK = {"dp_shard keep", "tp", "interleaved"}


@pytest.fixture(scope="module")
def wide_model(folder):
    return make_model(folder / "wide_model", sizes=SIZES)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CASES])
def test_peaks_are_those_that_are_predicted(trainer, wide_model, name):
    axes, change = CASES[name]
    num_ranks = axes.get("pp", 1) * axes.get("dp_shard", 1) * axes.get("sp", 1) * axes.get("tp", 1)
    run = trainer.run({**SETTINGS, "model.path": str(wide_model), **mesh(**axes), **change}, ranks=num_ranks)
    (line,) = run.lines("prediction")
    assert len(line["ranks"]) == num_ranks
    ratios = [rank["activation_peak_bytes"]["ratio"] for rank in line["ranks"]]
    assert all(0.9 < ratio < 1.1 for ratio in ratios), ratios
