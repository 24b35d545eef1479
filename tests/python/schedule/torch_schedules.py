"""Orders of torch.distributed.pipelining, from its own code run without a process group: the orders that its classes state, and
those in which its one-stage classes call a stage."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch.distributed.pipelining import schedules as torch_schedules

Order = list[tuple[str, ...]]  # per rank: actions like 2F0


def _texts(actions: Sequence[Any]) -> tuple[str, ...]:
    """Computations only: torch's lists have waits (None) and gradient reductions in between."""
    return tuple(str(action) for action in actions if action is not None and action.is_compute_op)


def stated_order(kind: str, ranks: int, micro_batches: int, stages_per_rank: int = 1) -> Order | None:
    """None: torch refuses the shape."""
    classes = {
        "gpipe": torch_schedules.ScheduleGPipe,
        "1f1b": torch_schedules.Schedule1F1B,
        "interleaved": torch_schedules.ScheduleInterleaved1F1B,
        "zb-h1": torch_schedules.ScheduleInterleavedZeroBubble,
    }
    stages = [
        SimpleNamespace(num_stages=ranks * stages_per_rank, group_size=ranks, group_rank=0, stage_index=ranks * i, submod=None)
        for i in range(stages_per_rank)
    ]
    one_stage = issubclass(classes[kind], torch_schedules.PipelineScheduleSingle)
    try:
        schedule = classes[kind](stages[0] if one_stage else stages, micro_batches)
    except ValueError:
        return None
    return [_texts(schedule.pipeline_order[rank]) for rank in range(ranks)]


class _RecordingStage:
    """Stands where a pipeline stage is, and writes down what it is asked to compute."""

    def __init__(self, index: int, num_stages: int) -> None:
        self.stage_index = index
        self.num_stages = num_stages
        self.is_last = index == num_stages - 1
        self.calls: list[str] = []

    def forward_one_chunk(self, micro_batch: int, *_: Any, **__: Any) -> torch.Tensor:
        self.calls.append(f"{self.stage_index}F{micro_batch}")
        return torch.zeros(1)

    def backward_one_chunk(self, micro_batch: int, **_: Any) -> None:
        self.calls.append(f"{self.stage_index}B{micro_batch}")

    def perform_reduce_grad(self, _: int) -> None: ...

    def get_fwd_recv_ops(self, _: int) -> list[Any]:
        return []

    get_fwd_send_ops = get_bwd_recv_ops = get_bwd_send_ops = get_fwd_recv_ops


def run_order(kind: str, ranks: int, micro_batches: int) -> Order:
    """As torch's run-time calls the stages, for any number of micro-batches: the loop of 1F1B can run fewer than there are stages,
    which its constructor refuses."""
    cls = {"gpipe": torch_schedules.ScheduleGPipe, "1f1b": torch_schedules.Schedule1F1B}[kind]
    order: Order = []
    for rank in range(ranks):
        stage = _RecordingStage(rank, ranks)
        schedule = cls.__new__(cls)
        torch_schedules.PipelineScheduleSingle.__init__(schedule, stage, micro_batches)
        schedule._initialize_stage = lambda *_: None  # shapes and buffers: there are none
        schedule._step_microbatches(None, None, None, None)
        order.append(tuple(stage.calls))
    return order
