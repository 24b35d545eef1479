"""The charts as plotly figures in plain dicts. Colours are `var(--name)` of the page's style, resolved in the browser, so
that a chart follows the light or dark theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gimbal.report.metrics import finite
from gimbal.report.runs import Run

MAX_POINTS = 800
MAX_HEAT_COLUMNS = 400
MAX_HEAT_ROWS = 128
TIME_PARTS = (
    ("data_wait_seconds", "waiting for data", "var(--series-6)"),
    ("forward_seconds", "forward", "var(--series-1)"),
    ("backward_seconds", "backward", "var(--series-5)"),
    ("reduce_wait_seconds", "waiting for gradients", "var(--series-3)"),
    ("optimizer_seconds", "optimizer", "var(--series-2)"),
)

Figure = dict[str, Any]
Point = tuple[float, float | None]


def points(run: Run, of: str | Callable[[dict[str, Any]], float | None], records: str = "train") -> list[Point]:
    """(step, value) of all stages, the stages one after another on the step axis."""
    get = (lambda record: record.get(of)) if isinstance(of, str) else of
    return [
        (record["step"] + stage.step_offset, finite(get(record)))
        for stage in run.stages
        for record in getattr(stage.metrics, records)
    ]


def thin(values: list[Point], most: int = MAX_POINTS) -> list[Point]:
    """Means of equal groups of neighbours, so that a long run makes no larger page than a short one."""
    if len(values) <= most:
        return values
    group = -(-len(values) // most)
    result = []
    for begin in range(0, len(values), group):
        part = values[begin : begin + group]
        numbers = [number for _, number in part if number is not None]
        result.append((part[-1][0], sum(numbers) / len(numbers) if numbers else None))
    return result


def smooth(values: list[Point], span: float, restarts: list[int] | None = None) -> list[Point]:
    """Exponential mean over about `span` points, started without a bias towards zero, and anew after each step of
    `restarts`."""
    keep, total, weight, result = 1 - 1 / max(span, 1.0), 0.0, 0.0, []
    left = sorted(restarts or [])
    for x, y in values:
        while left and x > left[0]:
            left.pop(0)
            total = weight = 0.0
        if y is not None:
            total, weight = keep * total + (1 - keep) * y, keep * weight + (1 - keep)
        result.append((x, total / weight if weight else None))
    return result


def line(values: list[Point], name: str, color: str, **more: Any) -> dict[str, Any]:
    style = {"color": color, "width": more.pop("width", 2)}
    return {
        "type": "scatter",
        "mode": "lines" if len(values) > 1 else "markers",
        "name": name,
        "x": [x for x, _ in values],
        "y": [None if y is None else float(f"{y:.6g}") for _, y in values],
        "line": style,
        "marker": {"color": color, "size": 7},
        **more,
    }


def figure(run: Run, traces: list[dict[str, Any]], y: dict[str, Any] | None = None, **layout: Any) -> Figure:
    """A figure with a step axis and, between stages, a dotted line with the next stage's name."""
    shapes, notes = [], []
    if len(run.stages) > 1:
        for stage in run.stages:
            if stage.step_offset:
                shapes.append(
                    {"type": "line", "x0": stage.step_offset, "x1": stage.step_offset, "y0": 0, "y1": 1, "yref": "paper",
                     "line": {"color": "var(--muted)", "width": 1, "dash": "dot"}}
                )
            notes.append(
                {"x": stage.step_offset, "y": 1, "yref": "paper", "text": stage.name, "showarrow": False,
                 "xanchor": "left", "yanchor": "bottom", "font": {"size": 11, "color": "var(--muted)"}}
            )
    axis = {"rangemode": "tozero", **(y or {})}
    return {
        "data": traces,
        "layout": {"xaxis": {"title": {"text": "step"}}, "yaxis": axis, "shapes": shapes, "annotations": notes,
                   "showlegend": len(traces) > 1, **layout},
    }


def loss(run: Run) -> Figure:
    raw = thin(points(run, "loss"))
    traces = [line(raw, "training, each step", "var(--series-1-soft)", width=1)]
    if len(raw) > 20:
        traces.append(line(smooth(raw, max(8, len(raw) / 60), [stage.step_offset for stage in run.stages]), "training, smoothed", "var(--series-1)"))
    else:
        traces = [line(raw, "training", "var(--series-1)")]
    held_out = points(run, "loss", "evals")
    if held_out:
        dots = line(held_out, "held-out data", "var(--series-3)")
        traces.append(dots | {"mode": "lines+markers" if len(held_out) > 1 else "markers"})
    return figure(run, traces)


def exact_match(run: Run) -> Figure | None:
    values = [(x, y) for x, y in points(run, "exact_match", "evals") if y is not None]
    # A single evaluation is in the tiles.
    if len(values) < 2:
        return None
    dots = line(values, "exact match", "var(--series-2)")
    return figure(run, [dots | {"mode": "lines+markers"}], {"range": [0, 1.02], "tickformat": ".0%"})


def series(run: Run, key: str, name: str, color: str, y: dict[str, Any] | None = None) -> Figure | None:
    """One key of the train records over the steps; None when no step has it."""
    values = thin(points(run, key))
    if all(number is None for _, number in values):
        return None
    return figure(run, [line(values, name, color)], y)


def time_split(run: Run) -> Figure | None:
    traces = []
    for key, name, color in TIME_PARTS:
        values = thin(points(run, key))
        if any(number is not None for _, number in values):
            traces.append(line(values, name, color, stackgroup="time", width=0, fillcolor=color))
    rest = thin(points(run, _unexplained))
    if traces and any(number for _, number in rest):
        traces.append(line(rest, "other", "var(--muted)", stackgroup="time", width=0, fillcolor="var(--muted)"))
    return figure(run, traces, {"ticksuffix": " s"}, hovermode="x unified") if traces else None


def _unexplained(record: dict[str, Any]) -> float | None:
    total = finite(record.get("step_seconds"))
    if total is None:
        return None
    return max(0.0, total - sum(finite(record.get(key)) or 0.0 for key, _, _ in TIME_PARTS))


def idle_shares(record: dict[str, Any]) -> dict[int, float]:
    """Per rank the share of a step that it waits for the busiest one: 1 - busy / busiest."""
    busy = {}
    for entry in record.get("ranks") or []:
        seconds = finite(entry.get("busy_seconds"))
        if seconds is not None:
            busy[int(entry["rank"])] = seconds
    most = max(busy.values(), default=0.0)
    return {rank: 1 - seconds / most for rank, seconds in busy.items()} if most > 0 else {}


def rank_heat(run: Run) -> Figure | None:
    """Ranks x steps, coloured by idle share; neighbouring steps (and ranks, of very many) are averaged."""
    columns = [
        (record["step"] + stage.step_offset, shares)
        for stage in run.stages
        for record in stage.metrics.train
        if (shares := idle_shares(record))
    ]
    ranks = sorted({rank for _, shares in columns for rank in shares})
    if len(ranks) < 2:
        return None
    rank_groups = _groups(ranks, MAX_HEAT_ROWS)
    step_groups = _groups(columns, MAX_HEAT_COLUMNS)
    cells = [
        [_mean([shares[rank] for _, shares in steps for rank in group if rank in shares]) for steps in step_groups]
        for group in rank_groups
    ]
    names = [f"rank {group[0]}" if len(group) == 1 else f"ranks {group[0]}–{group[-1]}" for group in rank_groups]
    heat = {
        "type": "heatmap", "x": [steps[-1][0] for steps in step_groups], "y": names, "z": cells, "zmin": 0,
        "zmax": max(0.2, max((cell for row in cells for cell in row if cell is not None), default=0.0)),
        "colorscale": "heat", "ygap": 2 if len(names) <= 32 else 0, "xgap": 1 if len(step_groups) <= 120 else 0,
        "colorbar": {"tickformat": ".0%", "thickness": 10, "outlinewidth": 0, "title": {"text": "idle", "side": "top"}},
        "hovertemplate": "%{y}, step %{x}: %{z:.1%} idle<extra></extra>",
    }
    height = 110 + max(110, min(26 * len(names), 420))
    return figure(run, [heat], {"autorange": "reversed", "rangemode": "normal"}, height=height)


def waste(run: Run) -> Figure | None:
    predicted = thin(points(run, "waste"))
    measured = thin(points(run, lambda record: _mean(list(idle_shares(record).values()))))
    traces = []
    if any(number is not None for _, number in predicted):
        traces.append(line(predicted, "as packed (cost model)", "var(--series-1)"))
    if any(number is not None for _, number in measured):
        traces.append(line(measured, "as measured (mean idle share)", "var(--series-3)"))
    return figure(run, traces, {"tickformat": ".0%"}) if traces else None


def _groups(items: list, most: int) -> list[list]:
    group = -(-len(items) // most)
    return [items[begin : begin + group] for begin in range(0, len(items), group)]


def _mean(values: list[float]) -> float | None:
    return float(f"{sum(values) / len(values):.4g}") if values else None
