"""What a run says it has communicated is what the table of docs/parallel.md says."""

from __future__ import annotations

from typing import Any

import pytest
from e2e_tool import Run
from gimbal.__main__ import run as gimbal
from mesh_tool import mesh

STEPS = 4
CHANGE = {"train.max_steps": STEPS}


@pytest.fixture(scope="module")
def on_two(trainer, mesh_model):
    def run(**axes: int) -> Run:
        return trainer.run({**CHANGE, "model.path": str(mesh_model), **mesh(**axes)}, ranks=2)

    return run


def communication(run: Run) -> dict[str, Any]:
    (line,) = run.lines("communication")
    assert line["step"] == line["steps"] == STEPS and len(line["ranks"]) == 2
    return line


def calls_of(totals: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    calls = {(entry["axis"], entry["call"]): entry for entry in totals}
    assert len(calls) == len(totals)
    assert all(entry["calls"] > 0 and entry["wait_seconds"] >= 0 for entry in totals)
    # Loss, times and signals; the squared norm.
    assert calls["all", "all-gather"]["bytes"] == 56 * STEPS and calls["all", "all-reduce"]["bytes"] == 8 * STEPS
    return calls


def state_bytes(run: Run) -> list[dict[str, float]]:
    return [rank["state_bytes"] for rank in run.lines("prediction")[-1]["ranks"]]


def test_sharded_weights_and_gradients(on_two, capsys):
    run = on_two(dp_shard=2)
    line = communication(run)
    for totals, held in zip(line["ranks"], state_bytes(run), strict=True):
        calls = calls_of(totals)
        # P w (1 - 1/2): in float32 as much as the rank's own shard holds, once a step.
        assert calls["dp_shard", "all-gather"]["bytes"] == held["parameters"] * STEPS > 0
        assert calls["dp_shard", "reduce-scatter"]["bytes"] == held["gradients"] * STEPS > 0
        assert {axis for axis, _ in calls} == {"dp_shard", "all"}
    assert calls_of(line["mean"])["dp_shard", "all-gather"]["bytes"] == state_bytes(run)[0]["parameters"] * STEPS
    capsys.readouterr()
    assert gimbal(["inspect", str(run.folder)]) == 0
    text = capsys.readouterr().out
    assert f"communication of {STEPS} steps" in text and "reduce-scatter" in text


def test_copied_weights(on_two):
    run = on_two(dp_replicate=2)
    for totals, held in zip(communication(run)["ranks"], state_bytes(run), strict=True):
        calls = calls_of(totals)
        # P m (1 - 1/2), and again for the sum.
        assert calls["dp_replicate", "all-reduce"]["bytes"] == held["gradients"] * STEPS
        assert set(calls) == {("dp_replicate", "all-reduce"), ("all", "all-gather"), ("all", "all-reduce")}


def test_a_pipeline_receives_what_is_sent(on_two):
    first, last = (calls_of(totals) for totals in communication(on_two(pp=2))["ranks"])
    for sender, receiver in ((first, last), (last, first)):
        for key in ("calls", "bytes"):
            assert sender["pp", "send"][key] == receiver["pp", "receive"][key] > 0
    # Gradients come back for the activations that went.
    assert first["pp", "receive"]["bytes"] == first["pp", "send"]["bytes"]


def test_one_process_communicates_nothing(trainer, mesh_model):
    assert trainer.run({**CHANGE, "model.path": str(mesh_model)}).lines("communication") == []
