"""The extension behind gimbal.balance, which checks what is handed over here. Not for users."""

import enum
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Path = str | os.PathLike[str]
_U32 = npt.NDArray[np.uint32]
_U64 = npt.NDArray[np.uint64]
_Progress = Callable[[float], object] | None
_Describe = Callable[[int], str] | None

__version__: str

class Method(enum.Enum):
    gimbal = 0
    isf = 1
    bfd = 2
    random = 3
    length = 4

class Oversize(enum.Enum):
    error = 0
    reject = 1
    alone = 2

class Patterns:
    """How many samples of which size fill a pack, for a data set and caps."""

    @property
    def fingerprint(self) -> int:
        """Equal for equal patterns: what ranks compare."""
    @property
    def caps(self) -> list[int]: ...
    @property
    def lp_value(self) -> float:
        """Packs by the linear program over all patterns."""
    @property
    def seconds(self) -> float:
        """That solving took."""
    @property
    def complete(self) -> bool:
        """False: stopped before lp_value was proven to be within 0.01 %."""
    def __len__(self) -> int:
        """Number of patterns; 0 when the heuristic packs the samples better."""
    def save(self, file: _Path) -> None:
        """Writes a pattern file (docs/balance.md)."""
    @staticmethod
    def load(file: _Path) -> Patterns:
        """Reads a pattern file. Raises UserError for one that is damaged or of another version."""

class Problem:
    def __init__(
        self,
        rows: _U32,
        pairs: _U64 | None,
        names: Sequence[str],
        row_caps: Sequence[int],
        samples_per_pack: int,
        cost_cap: float,
        costs: Sequence[tuple[float, float]],
    ) -> None: ...

class Epoch:
    @property
    def offsets(self) -> _U64: ...
    @property
    def samples(self) -> _U32: ...
    @property
    def rejected(self) -> list[tuple[int, str]]: ...
    @property
    def alone(self) -> list[tuple[int, str]]: ...
    @property
    def source_counts(self) -> list[int]: ...
    @property
    def patterns(self) -> Patterns | None: ...
    def report(self, ranks: int) -> dict[str, Any]: ...
    def measure(self, offsets: _U64, samples: _U32, ranks: int) -> dict[str, Any]:
        """The report of other packs of the same samples."""

class LengthTable:
    @property
    def streams(self) -> list[str]: ...
    @property
    def source_names(self) -> list[str]: ...
    @property
    def source_weights(self) -> list[float]: ...
    @property
    def rows(self) -> _U32: ...
    @property
    def pairs(self) -> _U64 | None: ...
    @property
    def sources(self) -> _U32: ...
    def describe_sample(self, sample: int) -> str: ...

class StreamPacker:
    def __init__(
        self,
        *,
        names: Sequence[str],
        row_caps: Sequence[int],
        samples_per_pack: int,
        cost_cap: float,
        costs: Sequence[tuple[float, float]],
        packs_per_slot: int,
        window: int,
        oversize: Oversize,
        seed: int,
    ) -> None: ...
    @property
    def samples_in(self) -> int: ...
    @property
    def samples_out(self) -> int: ...
    def push(self, id: int, rows: Sequence[int]) -> None: ...
    def finish(self) -> None: ...
    def next_slot(self) -> list[list[int]] | None: ...
    def take_rejected(self) -> list[tuple[int, str]]: ...
    def save(self) -> bytes: ...
    def load(self, state: bytes) -> None: ...

def pack(
    problem: Problem,
    *,
    method: Method,
    oversize: Oversize,
    seed: int,
    epoch: int,
    packs_per_step: int,
    packs_per_slot: int,
    samples_per_group: int,
    length_stream: int,
    isf_rounds: int,
    sources: _U32 | None,
    source_weights: Sequence[float],
    patterns: Patterns | None,
    pattern_seconds: float,
    describe: _Describe,
    progress: _Progress,
) -> Epoch: ...
def solve_patterns(
    problem: Problem,
    *,
    oversize: Oversize,
    seed: int,
    sources: _U32 | None,
    source_weights: Sequence[float],
    max_seconds: float,
    describe: _Describe,
    progress: _Progress,
) -> Patterns: ...
def fast_lower_bound(problem: Problem) -> int: ...
def lp_lower_bound(problem: Problem, max_seconds: float, known_packs: int, progress: _Progress) -> int: ...
def choose_cap(
    problem: Problem,
    *,
    stream: int,
    pack_overhead: float | None,
    phases_in_parallel: bool,
    ranks: int,
    memory_bytes: float,
    bytes_per_row: Sequence[float],
    seed: int,
) -> tuple[list[int], int, float, list[dict[str, Any]]]: ...
def plan_rebalance(
    owners: _U32, costs: npt.NDArray[np.float64], in_bytes: _U64, out_bytes: _U64, ranks: int, tolerance: float
) -> dict[str, Any]: ...
def save_packs(
    file: _Path,
    *,
    offsets: _U64,
    samples: _U32,
    num_samples: int,
    packs_per_step: int,
    packs_per_slot: int,
    seed: int,
    epoch: int,
) -> None: ...
def load_packs(file: _Path) -> dict[str, Any]: ...
def read_length_csv(files: Sequence[_Path]) -> LengthTable: ...
def read_dataset_lengths(folder: _Path) -> LengthTable: ...
def read_cost_file(file: _Path, streams: Sequence[str]) -> list[tuple[float, float]]: ...
def model_costs(config: _Path, streams: Sequence[str], head_share: float) -> list[tuple[float, float]]: ...

_Work = Sequence[float]

class ModelDesc:
    """A model as data; gimbal.arch.Model is the public face."""

    @property
    def type(self) -> str: ...
    @property
    def vision_row(self) -> str: ...
    @property
    def num_parameters(self) -> int: ...
    @property
    def sizes(self) -> dict[str, Any]: ...
    @property
    def blocks(self) -> list[dict[str, Any]]: ...
    def forward_flops(self, block: int, work: _Work) -> float: ...
    def backward_flops(self, work: _Work, frozen: Sequence[bool]) -> list[float]:
        """Of each block."""
    def recompute_flops(self, block: int, work: _Work, level: str) -> float: ...
    def saved_values(self, block: int, work: _Work, level: str) -> float: ...
    def cut_values(self, block: int, work: _Work) -> float: ...

def known_model_types() -> list[str]: ...
def describe_model(config: str, where: str) -> ModelDesc: ...
def describe_model_file(path: _Path) -> ModelDesc: ...

_Layout = tuple[Sequence[int], Sequence[str]]
_F64 = npt.NDArray[np.float64]

def known_hardware() -> list[str]: ...
def plan_passes() -> list[str]: ...
def plan_table(plan: str) -> str: ...
def comparison_table(plans: Sequence[str]) -> str: ...
def check_plan(plan: str, where: str) -> str:
    """The plan as it is written to files. Raises UserError for what is missing, unknown or does not fit together."""

class PlanInput:
    """A model, its costs and its samples; gimbal.plan.Planner is the public face. Plans are JSON text."""

    def __init__(
        self,
        *,
        model: ModelDesc,
        hardware: str,
        profile: str,
        dtype: str,
        frozen: Sequence[bool],
        state_bytes: Sequence[float],
        text_rows: _U32,
        vision_rows: _U32 | None,
        origin: str,
    ) -> None: ...
    def set_search(
        self,
        *,
        devices: int,
        axes: dict[str, int],
        schedule: str | None,
        stages_per_rank: int,
        caps: Sequence[int] | None,
        samples_per_step: float,
        packs_per_step: int | None,
        memory_bytes: float | None,
        without: set[str],
        num_top: int,
        seed: int,
    ) -> None: ...
    def search(self) -> str: ...
    def compare(self, plan: str) -> str: ...
    def predict(self, plan: str) -> str: ...
    def pack(
        self,
        *,
        method: Method,
        caps: Sequence[int],
        samples_per_pack: int,
        packs_per_step: int,
        packs_per_slot: int,
        seed: int,
    ) -> tuple[_F64, _U32]:
        """Work of each pack, [packs, 5], and its number of samples."""

class Pipeline:
    """One pipeline with its schedule; gimbal.plan.Pipeline is the public face. Work is [micro-batches, 5]."""

    def __init__(
        self,
        input: PlanInput,
        *,
        mesh: Sequence[int],
        schedule: str,
        stages_per_rank: int,
        micro_batches: int,
        reshard: bool,
        memory_bytes: float | None,
    ) -> None: ...
    @property
    def capacity(self) -> float: ...
    @property
    def in_flight(self) -> list[int]: ...
    def block_seconds(self, work: _F64) -> _F64: ...
    def cut(
        self,
        *,
        method: str,
        recompute: str,
        works: _F64,
        measured: _F64,
        radius: int,
        keep_best: int,
        reserve_bytes: float,
    ) -> _Layout | None: ...
    def recompute(
        self, *, stage_begin: Sequence[int], method: str, works: _F64, reserve_bytes: float
    ) -> _Layout | None: ...
    def stages(self, layout: _Layout, works: _F64) -> tuple[list[float], list[float]]: ...
    def simulate(self, layout: _Layout, works: _F64) -> tuple[_F64, list[float]]: ...
    def bounds(self, works: _F64) -> _F64: ...

def make_schedule(kind: str, ranks: int, stages_per_rank: int, micro_batches: int) -> str:
    """As text; gimbal.schedule is the public face."""

def parse_schedule(text: str, where: str) -> str: ...
def check_schedule(text: str) -> tuple[list[str], list[int]]:
    """(problems, most micro-batches in flight per stage)."""
