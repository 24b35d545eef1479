"""The charts of a packed epoch, in the report's chart code and colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gimbal.balance.plot_data import CapCurve, Method, PlotData, Window
from gimbal.report import charts, text
from gimbal.report.metrics import Metrics
from gimbal.report.runs import Run, Stage

COLORS = {
    "gimbal": "var(--series-1)",
    "isf": "var(--series-3)",
    "bfd": "var(--series-2)",
    "length": "var(--series-5)",
    "random": "var(--series-6)",
}
NAMES = {
    "gimbal": "gimbal",
    "isf": "ISF (OmniBal)",
    "bfd": "best fit, decreasing",
    "length": "mini-batches by length",
    "random": "random mini-batches",
}


def _as_run(records: list[dict[str, Any]]) -> Run:
    """The report's charts draw runs: slots stand for steps, loads for busy seconds."""
    return Run(Path("."), [Stage("", Path("."), Metrics(train=records))], [""])


def _figure(traces: list[dict[str, Any]], x: dict[str, Any], y: dict[str, Any], **layout: Any) -> charts.Figure:
    return charts.figure(_as_run([]), traces, y, xaxis=x, **layout)


def color(method: Method) -> str:
    return COLORS.get(method.name, "var(--muted)")


def name(method: Method) -> str:
    return NAMES.get(method.name, method.name)


def idle_heat(window: Window) -> charts.Figure | None:
    """Ranks x slots, coloured by the share of the slot that a rank waits for the one with the highest cost. None for
    one rank."""
    records = [
        {
            "step": window.first_slot + i,
            "ranks": [{"rank": rank, "busy_seconds": cost} for rank, cost in enumerate(costs)],
        }
        for i, costs in enumerate(window.loads["cost"])
    ]
    figure = charts.rank_heat(_as_run(records))
    if figure is None:
        return None
    figure["layout"]["xaxis"] = {"title": {"text": "slot"}}
    figure["data"][0]["hovertemplate"] = "%{y}, slot %{x}: %{z:.2%} idle<extra></extra>"
    return figure


def share_scale(figures: list[charts.Figure | None]) -> None:
    """One colour scale for all, so that they can be compared."""
    heats = [figure["data"][0] for figure in figures if figure]
    most = max((heat["zmax"] for heat in heats), default=0.0)
    for heat in heats:
        heat["zmax"] = most


def waste(data: PlotData) -> charts.Figure:
    """One group of bars per stream, one bar per method."""
    keys = [*data.streams, "cost"]
    traces = [
        {
            "type": "bar", "orientation": "h", "name": name(method), "y": keys, "x": [method.waste[key] for key in keys],
            "marker": {"color": color(method)}, "text": [text.percent(method.waste[key]) for key in keys],
            "textposition": "outside", "cliponaxis": False, "hovertemplate": "%{text}",
        }
        for method in data.methods
    ]  # fmt: skip
    most = max(max(method.waste.values()) for method in data.methods)
    x = {
        "title": {"text": "share of the ranks' time"},
        "tickformat": ".0%",
        "range": [0, max(1.14 * most, 0.01)],
        "showgrid": True,
    }
    y = {"autorange": "reversed", "rangemode": "normal", "type": "category"}
    height = 90 + len(keys) * max(46, 19 * len(traces) + 10)
    return _figure(traces, x, y, height=height, hovermode="y", bargap=0.22, margin={"r": 30})


def fill(data: PlotData, stream: str) -> charts.Figure:
    """How full the packs are in one stream: bars for the chosen method, lines for the others."""
    traces: list[dict[str, Any]] = []
    for i, method in enumerate(data.methods):
        counts = method.fill_counts[stream]
        bins, packs = len(counts) - 1, max(sum(counts), 1)
        middles = [(bin + 0.5) / bins for bin in range(len(counts))]
        shares = [float(f"{count / packs:.5g}") for count in counts]
        if i == 0:
            bar = {
                "type": "bar",
                "name": name(method),
                "x": middles,
                "y": shares,
                "width": 0.9 / bins,
                "marker": {"color": color(method)},
            }
            traces.append(bar)
        else:
            steps = charts.line(
                [*zip(middles, shares), (middles[-1] + 1 / bins, 0.0)], name(method), color(method), width=1.5
            )
            steps["line"]["shape"] = "hvh"
            # Five outlines over one another are hard to read: the ones that matter least wait for a click.
            if method.name in ("bfd", "length"):
                steps["visible"] = "legendonly"
            traces.append(steps)
    for trace in traces:
        trace["hovertemplate"] = "%{y:.2%}"
    of = "cap" if data.caps[stream] is not None else "largest pack"
    above = any(method.fill_counts[stream][-1] for method in data.methods)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    x = {"title": {"text": f"rows of a pack, share of the {of}"}, "tickvals": ticks, "ticktext": [f"{tick:.0%}" for tick in ticks],
         "hoverformat": ".0%", "range": [-0.01, 1.04 if above else 1.01]}  # fmt: skip
    return _figure(traces, x, {"tickformat": ".0%"}, height=340, barmode="overlay")


def cap_curve(curve: CapCurve) -> charts.Figure:
    """Predicted cost per sample over the cap, with its spread; the cap in use is marked."""
    points = [(point.cap, point.cost_per_sample) for point in curve.points]
    line = charts.line(points, "predicted", "var(--series-1)")
    line |= {
        "mode": "lines+markers",
        "error_y": {
            "type": "data",
            "array": [point.error for point in curve.points],
            "color": "var(--series-1)",
            "thickness": 1.5,
            "width": 4,
        },
        "customdata": [text.count(round(point.packs)) for point in curve.points],
        "hovertemplate": "%{y:.5g} per sample, about %{customdata} packs<extra></extra>",
    }
    traces = [line]
    chosen = [point for point in points if point[0] == curve.cap]
    if chosen:
        mark = charts.line(chosen, "cap in use", "var(--series-3)")
        traces.append(
            mark
            | {
                "mode": "markers",
                "marker": {"color": "var(--series-3)", "size": 13, "symbol": "diamond"},
                "hoverinfo": "skip",
            }
        )
    said = f"{'chosen' if curve.auto else 'in use'}: {text.count(curve.cap)}"
    # On the side with more room.
    right = not points or curve.cap <= (points[0][0] + points[-1][0]) / 2
    mark_line = {"type": "line", "x0": curve.cap, "x1": curve.cap, "y0": 0, "y1": 1, "yref": "paper",
                 "line": {"color": "var(--muted)", "width": 1, "dash": "dot"}}  # fmt: skip
    note = {"x": curve.cap, "y": 1, "yref": "paper", "text": said, "showarrow": False, "xanchor": "left" if right else "right",
            "yanchor": "bottom", "font": {"size": 12, "color": "var(--muted)"}}  # fmt: skip
    x = {"title": {"text": f"cap of {curve.stream}"}}
    y = {"rangemode": "normal", "title": {"text": "cost per sample"}}
    return _figure(traces, x, y, shapes=[mark_line], annotations=[note], showlegend=False, height=300)
