"""Drives tests/support/parity_run and compares its results with transformers'."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from model_cases import Batch, reference_logits, reference_loss, reference_steps

ROOT = Path(__file__).resolve().parents[2]

# fp32: logits and loss are a few hundred roundings of 6e-8 deep; gradients pass each layer twice.
LOGITS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
STEP_LOSS_TOLERANCE = 1e-4


def tool_path() -> Path:
    build = Path(os.environ.get("GIMBAL_BUILD_DIR", ROOT / "build" / "release"))
    return build / "tests" / "support" / "parity_run" / "parity_run"


def run_tool(folder: Path, batch: Batch, *arguments: object) -> dict[str, torch.Tensor]:
    """The tool's results; its error message as AssertionError."""
    given, results = folder.parent / "batch.safetensors", folder.parent / "results.safetensors"
    save_file({name: values.contiguous() for name, values in batch.tensors().items()}, given)
    command = [tool_path(), "--model", folder, "--input", given, "--output", results, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    # Copies: loaded tensors are views of the file, which the next run overwrites.
    return {name: values.clone() for name, values in load_file(results).items()}


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Norm of the difference relative to the norm of the reference."""
    assert ours.shape == theirs.shape
    reference = theirs.double()
    return float((ours.double() - reference).norm() / reference.norm().clamp_min(1e-30))


def saved_names(model: PreTrainedModel, folder: Path) -> dict[str, str]:
    """Name in the saved folder -> name of the module's parameter, found by equal values."""
    saved = load_file(folder / "model.safetensors")
    names = {}
    for theirs, parameter in model.named_parameters():
        matches = [name for name, values in saved.items() if values.shape == parameter.shape and torch.equal(values, parameter)]
        assert len(matches) == 1, f"{theirs}: {matches}"
        names[matches[0]] = theirs
    assert set(names) == set(saved)
    return names


def check_parity(model: PreTrainedModel, folder: Path, batch: Batch, *, num_steps: int = 0) -> dict[str, torch.Tensor]:
    """Logits, loss, every named gradient and the losses of AdamW steps."""
    results = run_tool(folder, batch, "--steps", num_steps, "--lr", 1e-3, "--weight-decay", 0.01)
    names = saved_names(model, folder)
    logits = reference_logits(model, batch)
    assert distance(results["logits"], logits.detach()) <= LOGITS_TOLERANCE
    model.zero_grad()
    loss = reference_loss(model, batch)
    loss.backward()
    assert distance(results["loss"], loss.detach()) <= LOGITS_TOLERANCE
    parameters = dict(model.named_parameters())
    gradients = {name.removeprefix("grad."): values for name, values in results.items() if name.startswith("grad.")}
    assert set(gradients) == set(names)
    largest = max(float(p.grad.norm()) for p in parameters.values() if p.grad is not None)
    for name, ours in gradients.items():
        theirs = parameters[names[name]].grad
        if theirs is None:  # a text-only batch does not reach the vision tower
            assert not ours.any(), name
        elif float(theirs.norm()) < 1e-6 * largest:
            # A key's bias moves all scores of a row alike: its gradient is 0 up to rounding.
            assert float(ours.norm()) < 1e-5 * largest, name
        else:
            assert distance(ours, theirs) <= GRADIENT_TOLERANCE, (name, distance(ours, theirs))
    if num_steps:
        theirs = reference_steps(model, batch, num_steps, 1e-3, 0.01)
        worst = ((results["step_losses"] - theirs).abs() / theirs).max()
        assert worst <= STEP_LOSS_TOLERANCE, worst
    assert results["num_parameters"].tolist() == [model.num_parameters()] * 2
    return results
