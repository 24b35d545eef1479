"""The same training with `transformers` under PyTorch's DDP and FSDP2, and with `gimbal train`: the same loss curve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from e2e_tool import Run, environment, free_port
from gimbal.balance import pack
from gimbal.dataset import Dataset

STEPS = 20
RANKS = 2
SEED = 3
ADAMW = {"lr": 2e-3, "betas": [0.9, 0.999], "eps": 1e-6, "weight_decay": 0.01}
CLIP = 1.0
RECIPE = {
    "balance.method": "random", "balance.samples_per_pack": 2, "balance.packs_per_step": RANKS,
    "optimizer.lr": ADAMW["lr"], "optimizer.schedule": "constant", "optimizer.eps": ADAMW["eps"],
    "optimizer.weight_decay": ADAMW["weight_decay"], "optimizer.decay_norms_and_biases": True, "optimizer.clip_norm": CLIP,
    "train.max_steps": STEPS, "train.seed": SEED,
}  # fmt: skip
# Two programs with unlike kernels, and eps of float32 is 1.2e-7. A loss is a mean over dozens of tokens, so that most of what
# rounding does to each cancels: 16 eps. A norm has no such mean and is that of weights that 20 updates have moved: 400 eps.
TOLERANCE = 2e-6
NORM_TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def steps(oracle_data: Path) -> list[list[list[int]]]:
    """The samples of each rank in each step."""
    data = Dataset(oracle_data)
    sizes = np.stack([data.index["num_tokens"], data.index["vision_rows"]], axis=1)
    of_steps: list[list[list[int]]] = []
    epoch = 0
    while len(of_steps) < STEPS:
        packs = pack(sizes, [None, None], method="random", samples_per_pack=2, ranks=RANKS, seed=SEED, epoch=epoch)
        for step in range(packs.steps):
            ranks = [np.concatenate(packs.for_rank(step, rank, RANKS)).tolist() for rank in range(RANKS)]
            of_steps.append(ranks)
        epoch += 1
    return of_steps[:STEPS]


@pytest.fixture(scope="module")
def oracle(oracle_model: Path, oracle_data: Path, steps: list[list[list[int]]], tmp_path_factory: pytest.TempPathFactory):
    """oracle(kind) -> losses and norms of PyTorch's run."""

    def run(kind: str) -> dict[str, list[float]]:
        folder = tmp_path_factory.mktemp(kind)
        settings = {"kind": kind, "model": str(oracle_model), "data": str(oracle_data), "steps": steps, "adamw": ADAMW, "clip_norm": CLIP}
        (folder / "settings.json").write_text(json.dumps(settings))
        script = Path(__file__).with_name("torch_oracle.py")
        port = str(free_port())
        python_path = os.pathsep.join([str(script.parents[3] / "python"), os.environ.get("PYTHONPATH", "")])
        processes = [
            subprocess.Popen(
                [sys.executable, str(script), str(folder / "settings.json"), str(folder / "out.json")],
                env=environment(RANK=str(rank), WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT=port, PYTHONPATH=python_path),
                stderr=subprocess.PIPE, text=True,
            )
            for rank in range(RANKS)
        ]  # fmt: skip
        for process in processes:
            _, errors = process.communicate(timeout=180)
            assert process.returncode == 0, errors
        return json.loads((folder / "out.json").read_text())

    return run


def check_order(run: Run, data: Dataset, steps: list[list[list[int]]]) -> None:
    """The run's ranks had the samples that the oracle is given, and in some step only one of them had pictures."""
    tokens = [[int(data.index["num_tokens"][samples].sum()) for samples in ranks] for ranks in steps]
    tiles = [[int(data.index["vision_rows"][samples].sum()) for samples in ranks] for ranks in steps]
    lines = run.lines("train")
    assert [[rank["tokens"] for rank in line["ranks"]] for line in lines] == tokens
    assert [[rank["vision_rows"] for rank in line["ranks"]] for line in lines] == tiles
    assert any(0 in ranks and max(ranks) > 0 for ranks in tiles)


@pytest.mark.parametrize(
    "kind, overrides",
    [
        ("ddp", {"parallel.dp_replicate": RANKS}),
        ("fsdp2", {"parallel.dp_shard": RANKS, "parallel.weights": "reshard"}),
    ],
)
def test_the_same_loss_curve(train, oracle, oracle_data, steps, kind, overrides):
    run = train(kind, {**RECIPE, **overrides})
    check_order(run, Dataset(oracle_data), steps)
    expected = oracle(kind)
    assert len(run.losses) == STEPS
    np.testing.assert_allclose(run.losses, expected["losses"], rtol=TOLERANCE)
    np.testing.assert_allclose(run.column("grad_norm"), expected["norms"], rtol=NORM_TOLERANCE)
    # A curve that says something: losses differ and fall.
    assert np.ptp(run.losses) > 0.1 * run.losses[0] and np.mean(run.losses[-4:]) < np.mean(run.losses[:4])
