"""The runs of the ladder: one model with its packs and pipelines, cut by each method and simulated."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gimbal import arch
from gimbal.plan import Layout, Mesh, Packs, Pipeline, Plan, Planner, Search, StateBytes
from models import CONFIGS, PUBLISHED_CUTS, blocks_of_units

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "balance"))
from lengths_data import read_all

HARDWARE = "a100-80g"
TP, PP, DP = 4, 4, 4
SAMPLES_PER_BATCH = 4  # of an unpacked micro-batch
CAPS = (5376, 16)  # text rows, tiles: about 4 samples in a pack
MIX = 1_200_000  # samples of InternVL-1.2M
SMALL_MEMORY = 40 * 2**30  # bytes of a device
PUBLISHED_PACK = (4096, 9)  # text rows, tiles
RESERVE = 5e9  # bytes that OmniBal's recompute rule leaves free, as in its published configuration
SECONDS_PER_DAY = 86400
PARTS = ("compute", "recompute", "communication", "bubble", "imbalance")


@dataclass
class Row:
    """One simulated run. Rung 0 to 3: a step of the ladder; None: beside it."""

    name: str
    data: str
    schedule: str
    rung: int | None
    cut: tuple[int, ...] = ()
    recomputed: tuple[float, ...] = ()  # share of each stage's blocks
    samples_per_step: float = 0
    step_seconds: float = 0
    shares: dict[str, float] = field(default_factory=dict)
    gpu_days: float = 0
    peak_gb: tuple[float, ...] = ()
    fits: bool = False
    bound_gap: float = 0  # to the bound of mesh, schedule and packs
    work_gap: float = 0  # to the bound without the time to fill and drain the pipeline
    ratio: float = 0  # to rung 0
    published_gpu_days: float | None = None
    published_ratio: float | None = None
    simulated: bool = True


class Case:
    """One model with its packs and pipelines."""

    def __init__(self, name: str, packs_per_step: int, seed: int) -> None:
        sizes, _ = read_all()
        self.name = name
        self.packs_per_step = packs_per_step
        self.model = arch.describe(CONFIGS[name])
        self.planner = Planner(
            self.model, text_rows=sizes[:, 1], vision_rows=sizes[:, 0], hardware=HARDWARE, state=StateBytes(),
            origin="bench/balance/lengths",
        )  # fmt: skip
        self.mesh = Mesh(pp=PP, tp=TP, dp_shard=DP)
        self.packs: dict[str, Packs] = {
            "random": self._pack("random", seed),
            "isf": self._pack("isf", seed),
            "gimbal": self._pack("gimbal", seed),
        }
        self.pipelines = {
            "1f1b": self._pipeline("1f1b"),
            "zb-h1": self._pipeline("zb-h1"),
            "1f1b, 40 GiB": self._pipeline("1f1b", SMALL_MEMORY),
        }
        self.padding = 1 - sizes[:, 1].sum() / self.packs["random"].works[:, 0].sum()

    def _pack(self, method: str, seed: int) -> Packs:
        return self.planner.pack(
            method, caps=() if method == "random" else CAPS,
            samples_per_pack=SAMPLES_PER_BATCH if method == "random" else 0,
            packs_per_step=self.packs_per_step, packs_per_slot=DP, seed=seed,
        )  # fmt: skip

    def _pipeline(self, schedule: str, memory: float | None = None) -> Pipeline:
        micro_batches = self.packs_per_step // DP
        return self.planner.pipeline(self.mesh, micro_batches=micro_batches, schedule=schedule, memory_bytes=memory)

    def run(self, name: str, data: str, layout: Layout | None, schedule: str = "1f1b", rung: int | None = None) -> Row | None:
        """None: the method found nothing that fits the memory."""
        if layout is None:
            return None
        pipeline, packs = self.pipelines[schedule], self.packs[data]
        works = pipeline.whole_steps(packs.works)
        result = pipeline.simulate(layout, works)
        seconds = float(result.seconds.mean())
        samples_per_step = self.packs_per_step * float(packs.samples.mean())
        bounds = pipeline.bounds(works).mean(axis=0)
        stages = list(zip(layout.stage_begin, layout.stage_begin[1:], strict=False))
        return Row(
            name=name, data=data, schedule=schedule, rung=rung, cut=layout.stage_begin,
            recomputed=tuple(
                round(sum(level != "keep" for level in layout.recompute[begin:end]) / (end - begin), 3)
                for begin, end in stages
            ),
            samples_per_step=samples_per_step, step_seconds=seconds,
            shares={part: float(getattr(result, part).mean()) / seconds for part in PARTS},
            gpu_days=MIX / samples_per_step * seconds * self.mesh.devices / SECONDS_PER_DAY,
            peak_gb=tuple(round(bytes / 1e9, 1) for bytes in result.peak_bytes),
            fits=max(result.peak_bytes) <= pipeline.capacity, bound_gap=seconds / float(bounds[0]) - 1,
            work_gap=seconds / float(max(bounds[1:4])) - 1,
        )  # fmt: skip

    def _search(self, **choices: object) -> Search:
        axes = {"pp": PP, "tp": TP, "sp": 1, "dp_shard": DP}
        return Search(**{"devices": self.mesh.devices, "axes": axes, "schedule": "1f1b", "caps": CAPS,
                         "packs_per_step": self.packs_per_step, **choices})  # fmt: skip

    def plan(self, **choices: object) -> tuple[Layout, Plan]:
        """`gimbal plan` on the ladder's mesh, packs and schedule."""
        best = self.planner.search(self._search(**choices)).best
        return best.layout, best

    def compare(self, **choices: object) -> list[dict[str, object]]:
        """`gimbal plan --compare` there: our plan first, then the published methods, on the same simulated steps."""
        search = self._search(**choices)
        rows = []
        for plan in self.planner.compare(search, self.planner.search(search).best):
            prediction = plan.data["prediction"]
            fits = max(prediction["peak_bytes"]) <= prediction["capacity_bytes"]
            rows.append({"method": plan.data["method"], "step_seconds": plan.seconds, "fits": fits})
        return rows

    def published(self) -> tuple[int, ...] | None:
        cuts = PUBLISHED_CUTS.get(self.name)
        if cuts is None:
            return None
        classes = [block.kind for block in self.model.blocks]
        return blocks_of_units(cuts, classes.count("vision_layer"), classes.count("text_layer"))

    def ladder(self) -> list[Row]:
        pipeline = self.pipelines["1f1b"]
        random, packed = self.packs["random"].works, self.packs["gimbal"].works
        return [
            row
            for row in (
                self.run("nothing balanced", "random", pipeline.cut("parameters", "full", random), rung=0),
                self.run("+ data", "gimbal", pipeline.cut("parameters", "full", packed), rung=1),
                self.run("+ model", "gimbal", self.plan(without={"recompute"})[0], rung=2),
                self.run("+ memory", "gimbal", self.plan()[0], rung=3),
            )
            if row is not None
        ]

    def others(self, pipeline_name: str, full: bool) -> list[Row | None]:
        """Other methods on our packs; `full`: those that recompute everything as well."""
        pipeline, packed = self.pipelines[pipeline_name], self.packs["gimbal"].works

        def row(name: str, method: str, recompute: str) -> Row | None:
            layout = pipeline.cut(method, recompute, packed, reserve_bytes=RESERVE)
            return self.run(name, "gimbal", layout, pipeline_name)

        rows = []
        if full:
            rows += [row("layers + full", "layers", "full"), row("omnibal cut + full", "omnibal", "full")]
        rows += [
            row("parameters + knapsack", "parameters", "knapsack"),
            row("layers + knapsack", "layers", "knapsack"),
            row("omnibal cut + its recompute", "omnibal", "omnibal"),
            row("omnibal cut + knapsack", "omnibal", "knapsack"),
            row("adapipe", "adapipe", "knapsack"),
        ]
        cuts = self.published()
        if cuts is not None:
            for recompute, name in (("full", "full"), ("omnibal", "its recompute"), ("knapsack", "knapsack")):
                layout = pipeline.recompute(cuts, recompute, packed, reserve_bytes=RESERVE)
                if full or recompute != "full":
                    rows.append(self.run(f"published cut + {name}", "gimbal", layout, pipeline_name))
        return rows

    def beside(self) -> list[Row | None]:
        """The ladder without its first rung, OmniBal with its own packs from end to end, and another schedule."""
        isf, random = self.packs["isf"].works, self.packs["random"].works
        pipeline = self.pipelines["1f1b"]
        return [
            self.run("all but data", "random", pipeline.cut("gimbal", "knapsack", random)),
            self.run("omnibal: data", "isf", pipeline.cut("parameters", "full", isf)),
            self.run("omnibal: data, model", "isf", pipeline.cut("omnibal", "full", isf)),
            self.run("omnibal: data, model, memory", "isf", pipeline.cut("omnibal", "omnibal", isf, reserve_bytes=RESERVE)),
            self.run("+ memory, zero bubble", "gimbal", self.plan(schedule="zb-h1")[0], "zb-h1"),
        ]

    def small_memory(self) -> list[Row | None]:
        """Ours and the others where the memory is tight."""
        name = "1f1b, 40 GiB"
        return [
            self.run("gimbal", "gimbal", self.plan(memory_bytes=SMALL_MEMORY)[0], name),
            *self.others(name, full=False),
        ]

    def published_size(self) -> dict | None:
        """Step seconds of our cut and the published one when every micro-batch is a full pack of the published caps."""
        cuts = self.published()
        if cuts is None:
            return None
        tokens, tiles = PUBLISHED_PACK
        pipeline = self.pipelines["1f1b"]
        mean = SAMPLES_PER_BATCH
        pack = [tokens, tokens * tokens / mean, tokens - tiles * self.model.tokens_per_vision_row, tiles, 0]
        works = np.tile(np.array(pack, dtype=float), (self.packs_per_step, 1))
        ours = pipeline.cut("gimbal", "knapsack", works)
        theirs = pipeline.recompute(cuts, "knapsack", works)
        if ours is None or theirs is None:
            return None
        our_seconds, their_seconds = (float(pipeline.simulate(layout, works).seconds[0]) for layout in (ours, theirs))
        return {
            "tokens": tokens, "tiles": tiles, "samples": mean, "our_cut": ours.stage_begin, "published_cut": cuts,
            "our_seconds": our_seconds, "published_seconds": their_seconds, "simulated": True,
        }  # fmt: skip

    def planned(self) -> dict:
        """What `gimbal plan` finds on the same mesh, with caps and schedule of its own choice."""
        samples = self.packs_per_step * float(self.packs["gimbal"].samples.mean())
        started = time.perf_counter()
        _, best = self.plan(caps=None, packs_per_step=None, samples_per_step=samples, schedule=None)
        return {"seconds_to_plan": time.perf_counter() - started, "plan": best.data, "table": best.table()}
