"""What `gimbal balance --plot` hands over to be drawn: read once, checked, then trusted by the charts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gimbal import UserError
from gimbal.report.metrics import finite

FORMAT, VERSION = "gimbal-balance-plot", 1


@dataclass
class Window:
    """Neighbouring full slots: per stream (and `cost`) one list of the ranks' loads per slot."""

    first_slot: int
    loads: dict[str, list[list[float]]]

    @property
    def num_slots(self) -> int:
        return len(self.loads["cost"])


@dataclass
class Method:
    name: str
    packs: int
    gap: float | None
    samples_per_pack: float
    fill: dict[str, float | None]
    waste: dict[str, float]
    pad_ratio: float
    dist_ratio: dict[str, float]
    order_correlation: float
    source_mix_ratio: float
    seconds: float
    slots: int
    head: Window
    tail: Window | None
    fill_counts: dict[str, list[int]]  # packs by fill, in bins of 1 / (len - 1); the last one holds all above
    fill_reference: dict[str, float]


@dataclass
class CapPoint:
    cap: float
    cost_per_sample: float
    error: float
    packs: float


@dataclass
class CapCurve:
    stream: str
    cap: float
    auto: bool
    closed_form: float
    points: list[CapPoint]


@dataclass
class Source:
    name: str
    samples: int
    drawn: int
    weight: float


@dataclass
class PlotData:
    """`methods[0]` is the chosen one."""

    files: list[str]
    streams: list[str]
    caps: dict[str, int | None]
    cap_cost: float | None
    cap_samples: int | None
    ranks: int
    accumulate: int
    seed: int
    epoch: int
    samples_in: int
    samples_packed: int
    samples_rejected: int
    packs_lower_bound: int
    bound: str
    methods: list[Method]
    sources: list[Source] = field(default_factory=list)
    cap_curves: list[CapCurve] = field(default_factory=list)

    @property
    def before(self) -> Method | None:
        """Random mini-batches, when they are not the chosen method themselves."""
        return next((method for method in self.methods[1:] if method.name == "random"), None)


class _Fields:
    """A JSON object whose entries are asked for by name and kind; the error names what is missing or of another kind."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise UserError(f"{where}: must be a JSON object; write the data anew with `gimbal balance --plot`")
        self.value, self.where = value, where

    def _fail(self, key: str, what: str) -> UserError:
        return UserError(f"{self.where}: '{key}' must be {what}; write the data anew with `gimbal balance --plot`")

    def text(self, key: str) -> str:
        if not isinstance(item := self.value.get(key), str):
            raise self._fail(key, "a text")
        return item

    def number(self, key: str) -> Any:
        if (item := finite(self.value.get(key))) is None:
            raise self._fail(key, "a number")
        return item

    def maybe(self, key: str) -> Any:
        return None if self.value.get(key) is None else self.number(key)

    def items(self, key: str) -> list[Any]:
        if not isinstance(item := self.value.get(key), list):
            raise self._fail(key, "a list")
        return item

    def fields(self, key: str) -> _Fields:
        return _Fields(self.value.get(key), f"{self.where}: '{key}'")

    def each(self, key: str) -> list[_Fields]:
        return [_Fields(item, f"{self.where}: entry {i} of '{key}'") for i, item in enumerate(self.items(key))]

    def grid(self, key: str, columns: int) -> list[list[float]]:
        rows = self.items(key)
        for row in rows:
            if not isinstance(row, list) or len(row) != columns or any(finite(item) is None for item in row):
                raise self._fail(key, f"lists of {columns} numbers")
        return rows


def read_plot_data(path: str | Path) -> PlotData:
    """Raises UserError when the file can't be read or is not what this version draws."""
    try:
        # Opened once and read to its end: it may be a pipe.
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not JSON ({error}); write it with `gimbal balance --plot`") from error
    return parse(value, str(path))


def parse(value: Any, where: str) -> PlotData:
    top = _Fields(value, where)
    if top.text("format") != FORMAT or top.number("version") != VERSION:
        raise UserError(
            f"{where}: format '{top.text('format')}', version {top.number('version')}; this program draws '{FORMAT}', "
            f"version {VERSION}: "
            "use the `gimbal` and the Python package of one release"
        )
    streams, ranks = [str(name) for name in top.items("streams")], int(top.number("ranks"))
    caps = top.fields("caps")
    data = PlotData(
        files=[str(name) for name in top.items("files")],
        streams=streams,
        caps={name: caps.maybe(name) for name in streams},
        cap_cost=top.maybe("cap_cost"),
        cap_samples=top.maybe("cap_samples"),
        ranks=ranks,
        accumulate=int(top.number("accumulate")),
        seed=int(top.number("seed")),
        epoch=int(top.number("epoch")),
        samples_in=int(top.number("samples_in")),
        samples_packed=int(top.number("samples_packed")),
        samples_rejected=int(top.number("samples_rejected")),
        packs_lower_bound=int(top.number("packs_lower_bound")),
        bound=top.text("bound"),
        methods=[_method(entry, streams, ranks) for entry in top.each("methods")],
        sources=[
            Source(entry.text("name"), entry.number("samples"), entry.number("drawn"), entry.number("weight"))
            for entry in top.each("sources")
        ],
        cap_curves=[_curve(entry) for entry in top.each("cap_curves")],
    )
    if not data.methods:
        raise UserError(f"{where}: 'methods' is empty; write the data anew with `gimbal balance --plot`")
    return data


def _method(entry: _Fields, streams: list[str], ranks: int) -> Method:
    fill, waste, dist, histogram = (entry.fields(key) for key in ("fill", "waste", "dist_ratio", "fill_histogram"))
    bars = {name: histogram.fields(name) for name in streams}
    head = _window(entry.fields("head"), streams, ranks)
    return Method(
        name=entry.text("method"),
        packs=int(entry.number("packs")),
        gap=entry.maybe("gap"),
        samples_per_pack=entry.number("samples_per_pack"),
        fill={name: fill.maybe(name) for name in streams},
        waste={name: waste.number(name) for name in [*streams, "cost"]},
        pad_ratio=entry.number("pad_ratio"),
        dist_ratio={name: dist.number(name) for name in streams},
        order_correlation=entry.number("order_correlation"),
        source_mix_ratio=entry.number("source_mix_ratio"),
        seconds=entry.number("seconds"),
        slots=int(entry.number("slots")),
        head=head,
        tail=None if entry.value.get("tail") is None else _window(entry.fields("tail"), streams, ranks),
        fill_counts={name: [int(count) for count in bars[name].items("counts")] for name in streams},
        fill_reference={name: bars[name].number("reference") for name in streams},
    )


def _window(entry: _Fields, streams: list[str], ranks: int) -> Window:
    loads = entry.fields("loads")
    return Window(int(entry.number("first_slot")), {name: loads.grid(name, ranks) for name in [*streams, "cost"]})


def _curve(entry: _Fields) -> CapCurve:
    points = [
        CapPoint(point.number("cap"), point.number("cost_per_sample"), point.number("error"), point.number("packs"))
        for point in entry.each("points")
    ]
    auto = entry.value.get("auto") is True
    return CapCurve(entry.text("stream"), entry.number("cap"), auto, entry.number("closed_form"), points)
