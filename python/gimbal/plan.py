"""Plans of training runs, and what a run would take, without a GPU and without weights.

    from gimbal import arch
    from gimbal.plan import Planner, Search

    planner = Planner(arch.describe("InternVL2-8B"), text_rows=tokens, vision_rows=tiles, hardware="a100-80g")
    found = planner.search(Search(devices=64))
    print(found.best.table(), found.explanation)

`Planner.pipeline` goes below the search: it cuts one pipeline by any method and simulates it with given micro-batches.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gimbal import UserError, _native
from gimbal.arch import Model, Work
from gimbal.balance import arrays

Partition = Literal["gimbal", "parameters", "layers", "omnibal", "adapipe"]
Recompute = Literal["full", "none", "omnibal", "knapsack"]
Schedule = Literal["gpipe", "1f1b", "interleaved", "zb-h1"]
Works = npt.NDArray[np.float64]

__all__ = [
    "Layout", "Mesh", "Packs", "Pipeline", "Plan", "Planner", "Search", "SearchResult", "Simulation", "StateBytes",
    "known_hardware", "pass_names",
]  # fmt: skip

WORK_COLUMNS = ("text_rows", "text_pairs", "loss_rows", "vision_rows", "vision_pairs")
METHODS = {method.name: method for method in (_native.Method.gimbal, _native.Method.isf, _native.Method.bfd,
                                              _native.Method.random, _native.Method.length)}  # fmt: skip


def known_hardware() -> list[str]:
    """Machines whose costs follow from their data sheets."""
    return _native.known_hardware()


def pass_names() -> list[str]:
    """Passes of the search, for Search.without."""
    return _native.plan_passes()


@dataclass(frozen=True)
class Mesh:
    """Devices per axis. `ep` is a view over dp_shard x sp."""

    pp: int = 1
    dp_replicate: int = 1
    dp_shard: int = 1
    sp: int = 1
    tp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if size < 1:
                raise UserError(f"mesh: {name} is {size}; must be at least 1")
        if self.dp_shard * self.sp % self.ep:
            raise UserError(f"mesh: ep {self.ep} does not divide dp_shard x sp = {self.dp_shard * self.sp}")

    @property
    def devices(self) -> int:
        return self.pp * self.dp_replicate * self.dp_shard * self.sp * self.tp

    @property
    def data_parallel(self) -> int:
        """Ranks that run different packs at the same time."""
        return self.dp_replicate * self.dp_shard


@dataclass(frozen=True)
class StateBytes:
    """Bytes per parameter: the values that the optimizer updates, the copy that blocks use, the gradient, the moments."""

    master: float = 4
    compute: float = 2
    gradient: float = 4
    moments: float = 8


@dataclass(frozen=True)
class Search:
    """What is asked. What is None is searched; `axes` fixes axes of the mesh, as {"tp": 4}."""

    devices: int
    axes: Mapping[str, int] = field(default_factory=dict)
    schedule: Schedule | None = None
    stages_per_rank: int = 2  # of interleaved candidates
    caps: Sequence[int] | None = None  # text rows, vision rows; 0: none
    samples_per_step: float = 128
    packs_per_step: int | None = None  # instead of samples_per_step, with given caps
    memory_bytes: float | None = None  # of a device, instead of the profile's
    without: Iterable[str] = ()
    num_top: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Layout:
    """How blocks are run: stage s has the blocks stage_begin[s] .. stage_begin[s + 1], and each block its recompute level."""

    stage_begin: tuple[int, ...]
    recompute: tuple[str, ...]


class Plan:
    """A plan with its prediction: `data` is the content of plan.json."""

    def __init__(self, data: Mapping[str, Any], where: str = "plan") -> None:
        """Raises UserError for what is missing, unknown or does not fit together."""
        self.data: dict[str, Any] = json.loads(_native.check_plan(json.dumps(dict(data)), where))

    @classmethod
    def load(cls, file: str | os.PathLike[str]) -> Plan:
        path = Path(file)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UserError(f"{path}: no plan: {error}") from None
        if not isinstance(data, dict):
            raise UserError(f"{path}: no plan: not a JSON object")
        return cls(data, str(path))

    def save(self, file: str | os.PathLike[str]) -> None:
        Path(file).write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")

    def text(self) -> str:
        return json.dumps(self.data)

    @property
    def layout(self) -> Layout:
        """The plan's cuts and levels."""
        begin, levels = [0], []
        for stage in self.data["stages"]:
            begin.append(begin[-1] + stage["num_blocks"])
            for run in stage["recompute"]:
                levels += [run["level"]] * run["num_blocks"]
        return Layout(tuple(begin), tuple(levels))

    @property
    def seconds(self) -> float:
        """Predicted time of a step."""
        return self.data["prediction"]["step"]["seconds"]

    def table(self) -> str:
        """Mesh, caps, schedule; per stage its blocks, levels, seconds and bytes; the parts of the step's time."""
        return _native.plan_table(self.text())


@dataclass(frozen=True)
class SearchResult:
    """`top`: best first, `best` included. `passes`: name, enabled, seconds and result of each."""

    best: Plan
    top: list[Plan]
    passes: list[dict[str, Any]]
    num_meshes: int
    num_candidates: int
    num_simulated: int
    explanation: str


@dataclass(frozen=True)
class Packs:
    """Micro-batches in the order in which they run. `works`: [packs, 5], columns WORK_COLUMNS; `samples`: number in each."""

    works: Works
    samples: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Simulation:
    """Per step [steps]; the parts add up to `seconds`. `peak_bytes`: per pipeline rank, over all steps."""

    seconds: npt.NDArray[np.float64]
    compute: npt.NDArray[np.float64]
    recompute: npt.NDArray[np.float64]
    communication: npt.NDArray[np.float64]
    bubble: npt.NDArray[np.float64]
    imbalance: npt.NDArray[np.float64]
    peak_bytes: tuple[float, ...]


class Planner:
    """A model, the costs of its blocks and the samples that it is trained on."""

    def __init__(
        self,
        model: Model,
        *,
        text_rows: Any,
        vision_rows: Any = None,
        hardware: str | None = None,
        profile: str | os.PathLike[str] | None = None,
        dtype: str = "bfloat16",
        freeze: Iterable[str] = (),
        state: StateBytes = StateBytes(),
        origin: str = "samples",
    ) -> None:
        """`hardware` names a machine (known_hardware) or a JSON file with one; `profile` is a file of `gimbal profile`.
        Rows are per sample; `freeze` names blocks by pattern ("vision.*"). Raises UserError for what cannot be used."""
        if (hardware is None) == (profile is None):
            raise UserError("give either hardware (a machine's name) or profile (a file of `gimbal profile`)")
        self.model = model
        text = arrays.unsigned_array(text_rows, "text_rows", None, np.uint32)
        vision = None if vision_rows is None else arrays.unsigned_array(vision_rows, "vision_rows", None, np.uint32)
        if text.shape[1] != 1 or (vision is not None and vision.shape != text.shape):
            raise UserError("text_rows and vision_rows have one number per sample, and are equally long")
        self._native = _native.PlanInput(
            model=model._native,
            hardware=hardware or "",
            profile="" if profile is None else os.fspath(profile),
            dtype=dtype,
            frozen=model.frozen(freeze),
            state_bytes=[state.master, state.compute, state.gradient, state.moments],
            text_rows=text[:, 0],
            vision_rows=None if vision is None else vision[:, 0],
            origin=origin,
        )

    def _set(self, search: Search) -> None:
        axes = [name for name in vars(Mesh())]
        for name in search.axes:
            if name not in axes:
                raise UserError(f"axes: there is no axis '{name}'; the axes are {', '.join(axes)}")
        if search.caps is not None and len(search.caps) not in (1, 2):
            raise UserError(f"caps: {len(search.caps)} numbers; give text rows, and vision rows where there are any")
        if search.packs_per_step is not None and search.caps is None:
            raise UserError("packs_per_step: needs given caps; give caps too, or samples_per_step instead")
        if search.memory_bytes is not None and not 0 < search.memory_bytes < float("inf"):
            raise UserError(f"memory_bytes is {search.memory_bytes}; must be above 0")
        self._native.set_search(
            devices=search.devices,
            axes=dict(search.axes),
            schedule=search.schedule,
            stages_per_rank=search.stages_per_rank,
            caps=None if search.caps is None else list(search.caps),
            samples_per_step=search.samples_per_step,
            packs_per_step=search.packs_per_step,
            memory_bytes=search.memory_bytes,
            without=set(search.without),
            num_top=search.num_top,
            seed=search.seed,
        )

    def search(self, search: Search) -> SearchResult:
        """The best plan. Raises UserError when nothing works, with what would."""
        self._set(search)
        found = json.loads(self._native.search())
        found["best"] = Plan(found["best"])
        found["top"] = [Plan(plan) for plan in found["top"]]
        return SearchResult(**found)

    def compare(self, search: Search, best: Plan) -> list[Plan]:
        """The published methods on the mesh, caps and schedule of `best`, in the same simulator."""
        self._set(search)
        return [Plan(plan) for plan in json.loads(self._native.compare(best.text()))]

    def predict(self, search: Search, plan: Plan) -> Plan:
        """The plan (from a file, or edited) with its prediction on these samples."""
        self._set(search)
        return Plan(json.loads(self._native.predict(plan.text())))

    def pack(
        self,
        method: Literal["gimbal", "isf", "bfd", "random", "length"] = "gimbal",
        *,
        caps: Sequence[int] = (),
        samples_per_pack: int = 0,
        packs_per_step: int = 1,
        packs_per_slot: int = 0,
        seed: int = 0,
    ) -> Packs:
        """Micro-batches of one epoch. `caps`: text rows and vision rows. "random" and "length" make mini-batches of
        samples_per_pack samples, padded to the longest."""
        if method not in METHODS:
            raise UserError(f"unknown packing method '{method}'; known: {', '.join(METHODS)}")
        works, samples = self._native.pack(
            method=METHODS[method],
            caps=list(caps),
            samples_per_pack=samples_per_pack,
            packs_per_step=packs_per_step,
            packs_per_slot=packs_per_slot,
            seed=seed,
        )
        return Packs(works, samples)

    def pipeline(
        self,
        mesh: Mesh,
        *,
        micro_batches: int,
        schedule: Schedule = "1f1b",
        stages_per_rank: int = 1,
        reshard: bool = False,
        memory_bytes: float | None = None,
    ) -> Pipeline:
        """`micro_batches`: of a data-parallel rank in a step. `reshard`: gather a block's parameters before each use and free
        them after it (FSDP), instead of keeping them over the step."""
        return Pipeline(
            self, _native.Pipeline(
                self._native,
                mesh=[mesh.pp, mesh.dp_replicate, mesh.dp_shard, mesh.sp, mesh.tp, mesh.ep],
                schedule=schedule,
                stages_per_rank=stages_per_rank,
                micro_batches=micro_batches,
                reshard=reshard,
                memory_bytes=memory_bytes,
            ), mesh.data_parallel * micro_batches,
        )  # fmt: skip


class Pipeline:
    """One pipeline with its schedule, to cut and to simulate. Made by Planner.pipeline. Work is given as [n, 5], columns
    WORK_COLUMNS, in the order in which micro-batches run: those of all data-parallel ranks side by side."""

    def __init__(self, planner: Planner, native: _native.Pipeline, packs_per_step: int) -> None:
        self._planner = planner
        self._native = native
        self.packs_per_step = packs_per_step
        self.capacity: float = native.capacity  # bytes of a device that the run may use
        self.in_flight: tuple[int, ...] = tuple(native.in_flight)  # most micro-batches held at a time, per stage

    def whole_steps(self, works: Works) -> Works:
        """Without the packs of an incomplete last step."""
        return works[: len(works) // self.packs_per_step * self.packs_per_step]

    def block_seconds(self, work: Work) -> npt.NDArray[np.float64]:
        """[blocks, 3]: forward, backward, recompute of everything, of one micro-batch."""
        return self._native.block_seconds(np.array([[getattr(work, name) for name in WORK_COLUMNS]], dtype=np.float64))

    def cut(
        self,
        method: Partition,
        recompute: Recompute,
        works: Works,
        *,
        measured: Works | None = None,
        radius: int = 1,
        keep_best: int = 50,
        reserve_bytes: float = 0,
    ) -> Layout | None:
        """Cuts and levels by the named methods for micro-batches like `works`; None when nothing fits the memory.

        "gimbal" with "knapsack" and "adapipe" with "knapsack" choose both together. "omnibal" simulates its candidates on
        `measured`, whole steps: by default the first of `works`. `reserve_bytes`: what OmniBal's recompute leaves free."""
        works = _work_array(works)
        if measured is None:
            measured = works[: self.packs_per_step]
        found = self._native.cut(
            method=method,
            recompute=recompute,
            works=works,
            measured=_work_array(measured),
            radius=radius,
            keep_best=keep_best,
            reserve_bytes=reserve_bytes,
        )
        return _layout(found)

    def recompute(
        self, stage_begin: Sequence[int], method: Recompute, works: Works, *, reserve_bytes: float = 0
    ) -> Layout | None:
        """Levels for given cuts; None when nothing fits the memory."""
        return _layout(
            self._native.recompute(
                stage_begin=list(stage_begin), method=method, works=_work_array(works), reserve_bytes=reserve_bytes
            )
        )

    def stage_seconds(self, layout: Layout, works: Works) -> list[float]:
        """Forward, backward and recompute of a mean micro-batch."""
        return self._native.stages((layout.stage_begin, layout.recompute), _work_array(works))[0]

    def stage_bytes(self, layout: Layout, works: Works) -> list[float]:
        """Peak bytes of a rank of each stage when all micro-batches are as large as the largest."""
        return self._native.stages((layout.stage_begin, layout.recompute), _work_array(works))[1]

    def simulate(self, layout: Layout, works: Works) -> Simulation:
        """Every step of `works`, whose number is a multiple of packs_per_step."""
        times, peak = self._native.simulate((layout.stage_begin, layout.recompute), _work_array(works))
        return Simulation(*times.T, peak_bytes=tuple(peak))

    def bounds(self, works: Works) -> npt.NDArray[np.float64]:
        """[steps, 5] seconds that no cuts and levels can beat: the largest, and work, critical path, memory, fill."""
        return self._native.bounds(self.whole_steps(_work_array(works)))


def _work_array(works: Any) -> Works:
    array = arrays.real_array(works, "works")
    if array.ndim != 2 or array.shape[1] != len(WORK_COLUMNS):
        raise UserError(f"works has shape {array.shape}; give [micro-batches, 5]: {', '.join(WORK_COLUMNS)}")
    if array.size and array.min() < 0:
        raise UserError(f"works has {array.min()}; numbers of rows and pairs are at least 0")
    return array


def _layout(found: tuple[Sequence[int], Sequence[str]] | None) -> Layout | None:
    return None if found is None else Layout(tuple(found[0]), tuple(found[1]))
