"""`python -m gimbal.balance.plot DATA.json --out out.html`: a packed epoch as one self-contained HTML page.

`gimbal balance --plot out.html` writes the data and calls this.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from html import escape
from pathlib import Path

from gimbal import UserError, __version__
from gimbal.balance import plot_charts
from gimbal.balance.plot_data import CapCurve, Method, PlotData, Window, read_plot_data
from gimbal.report import charts, page, text

FEW_RANKS = charts.MAX_HEAT_ROWS


def render(data: PlotData, *, now: datetime.datetime | None = None) -> str:
    """Returns the page as text; it needs no network."""
    figures: dict[str, charts.Figure] = {}
    sections = [
        page.section("Figures", "", _table(data)),
        page.section("Idle time, rank by rank", _idle_hint(data), _heats(data, figures)),
        page.section("Idle time, method by method", "", _waste(data, figures)),
        page.section("How full the packs are", "", _fills(data, figures)),
        page.section(
            "Choosing the cap",
            "",
            "".join(_curve(f"curve-{i}", curve, figures) for i, curve in enumerate(data.cap_curves)),
        ),
        page.section("Sources", "", _sources(data)),
    ]
    footer = f"<footer>Written by gimbal {__version__}, {(now or datetime.datetime.now()):%Y-%m-%d %H:%M}</footer>"
    return page.document(
        _title(data), "\n".join([_header(data), _tiles(data), *filter(None, sections), footer]), figures
    )


def _title(data: PlotData) -> str:
    names = [Path(file).name for file in data.files]
    return "Balance of " + ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _header(data: PlotData) -> str:
    caps = [f"{stream} ≤ {cap:,}" for stream, cap in data.caps.items() if cap is not None]
    caps += [f"cost ≤ {data.cap_cost:,.6g}"] if data.cap_cost is not None else []
    caps += [f"samples ≤ {data.cap_samples:,}"] if data.cap_samples is not None else []
    facts = [
        f"a pack: {', '.join(caps)}" if caps else "no caps",
        f"{data.ranks:,} {'rank' if data.ranks == 1 else 'ranks'}",
    ]
    facts += [f"{data.accumulate} slots per step"] if data.accumulate > 1 else []
    facts += [f"seed {data.seed}, epoch {data.epoch}"]
    return (
        f'<header><div><h1>{escape(_title(data))}</h1><p class="hint">{escape(" · ".join(facts))}</p></div>'
        '<button id="theme" type="button">Dark</button></header>'
    )


def _tiles(data: PlotData) -> str:
    chosen = data.methods[0]
    tiles = [("packs", f"{chosen.packs:,}"), (f"packs at least ({_bound_name(data)})", f"{data.packs_lower_bound:,}")]
    if chosen.gap is not None:
        tiles.append(("above the bound", text.percent(chosen.gap)))
    tiles.append(("idle in cost", text.percent(chosen.waste["cost"])))
    tiles.append(
        (f"of {data.samples_in:,} samples packed, {data.samples_rejected:,} rejected", f"{data.samples_packed:,}")
    )
    cells = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for what, value in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _bound_name(data: PlotData) -> str:
    return {"lp": "LP bound", "fast": "fast bound"}.get(data.bound, data.bound)


def _table(data: PlotData) -> str:
    """All methods side by side."""

    def share(value: float | None) -> str:
        return "–" if value is None else text.percent(value)

    rows: list[tuple[str, list[str]]] = [
        ("packs", [f"{method.packs:,}" for method in data.methods]),
        (f"above the bound of {data.packs_lower_bound:,}", [share(method.gap) for method in data.methods]),
        ("samples in a pack, mean", [f"{method.samples_per_pack:.3g}" for method in data.methods]),
    ]
    rows += [(f"fill, {stream}", [share(method.fill[stream]) for method in data.methods]) for stream in data.streams]
    rows += [(f"idle, {key}", [share(method.waste[key]) for method in data.methods]) for key in [*data.streams, "cost"]]
    rows += [
        ("padding", [share(method.pad_ratio) for method in data.methods]),
        *(
            (f"DistRatio, {stream}", [f"{method.dist_ratio[stream]:.3g}" for method in data.methods])
            for stream in data.streams
        ),
        ("order correlation", [f"{round(method.order_correlation, 3) + 0.0:.3f}" for method in data.methods]),
        ("source mix ratio", [f"{method.source_mix_ratio:.2f}" for method in data.methods]),
        ("slots", [f"{method.slots:,}" for method in data.methods]),
        ("time to pack and arrange", [text.duration(method.seconds) for method in data.methods]),
    ]
    # The report's tables have two columns; this one has its own widths, and scrolls on a narrow screen.
    wide = ' style="width:auto;white-space:nowrap;padding-right:18px"'
    still = wide[:-1] + ';position:sticky;left:0;background:var(--card)"'
    head = "".join(f"<th{wide}>{escape(plot_charts.name(method))}</th>" for method in data.methods)
    body = "".join(
        f"<tr><th{still}>{escape(what)}</th>" + "".join(f"<td{wide}>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for what, cells in rows
    )
    hint = (
        f"{data.samples_in:,} samples came in; {data.samples_packed:,} are in exactly one pack each and {data.samples_rejected:,} were "
        f"rejected. No packing can have fewer than {data.packs_lower_bound:,} packs ({_bound_name(data)}). Idle: the mean over the full "
        "slots of 1 - mean / max over the ranks. Order correlation: near 0 when cheap and costly slots are in random order. Source mix "
        "ratio: 1 when the sources are mixed as well as in a random order. Padding and DistRatio are as OmniBal defines them."
    )
    return (
        f'<div class="card wide"><div style="overflow-x:auto"><table><thead><tr><th{still}></th>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"</div>{_caption(hint)}</div>"
    )


def _caption(words: str) -> str:
    return f'<p class="hint" style="margin-top:8px;max-width:100ch">{escape(words)}</p>'


def _card(
    figures: dict[str, charts.Figure],
    key: str,
    title: str,
    figure: charts.Figure,
    caption: str,
    *,
    wide: bool = True,
    log: bool = False,
) -> str:
    figures[key] = figure
    button = f'<button type="button" data-log-of="{key}" aria-pressed="false">log</button>' if log else ""
    return (
        f'<div class="card{" wide" if wide else ""}"><div class="card-head"><h3>{escape(title)}</h3>{button}</div>'
        f'<div class="plot" id="{key}"></div>{_caption(caption)}</div>'
    )


def _idle_hint(data: PlotData) -> str:
    if data.ranks == 1:
        return ""
    return (
        "Each row is a rank, each column a slot: the packs that run at the same time. A rank waits until the one with the highest cost is "
        "done; the stronger the colour, the larger the share of the slot that it waits. One colour scale for all of these pictures."
    )


def _heats(data: PlotData, figures: dict[str, charts.Figure]) -> str:
    if data.ranks == 1:
        return '<div class="card wide"><p class="hint">One rank: nothing waits for another. Use --ranks to see more of them.</p></div>'
    shown = [("before", data.before), ("after", data.methods[0])] if data.before else [("after", data.methods[0])]
    cards: list[tuple[str, str, Method, Window, charts.Figure, bool]] = []
    for part in ("head", "tail"):
        for key, method in shown:
            window = method.head if part == "head" else method.tail
            if window is not None and (figure := plot_charts.idle_heat(window)) is not None:
                cards.append((f"{key}-{part}", key, method, window, figure, part == "head"))
    plot_charts.share_scale([figure for *_, figure, _ in cards])
    parts = []
    for key, when, method, window, figure, wide in cards:
        last = window.first_slot + window.num_slots - 1
        title = f"{when.capitalize()}: {plot_charts.name(method)}, slots {window.first_slot:,} to {last:,} of {method.slots:,}"
        parts.append(_card(figures, key, title, figure, _heat_caption(data, method, window), wide=wide))
    few = [plot_charts.name(method) for _, method in shown if method.head.num_slots == 0]
    if few:
        parts.append(
            f'<div class="card wide"><p class="hint">No slot is full with {data.ranks:,} ranks: {escape(", ".join(few))}.</p></div>'
        )
    return "".join(parts)


def _heat_caption(data: PlotData, method: Method, window: Window) -> str:
    shares = [1 - sum(costs) / len(costs) / max(costs) for costs in window.loads["cost"] if max(costs) > 0]
    mean = text.percent(sum(shares) / len(shares)) if shares else "0 %"
    words = f"In these slots the ranks wait {mean} of the time."
    if method.name in ("random", "length"):
        words += " Padding comes on top; it is not counted here."
    if data.ranks > FEW_RANKS:
        words += f" {-(-data.ranks // FEW_RANKS)} neighbouring ranks are shown as one row, by their mean."
    return words


def _waste(data: PlotData, figures: dict[str, charts.Figure]) -> str:
    chosen = data.methods[0]
    caption = (
        "Mean over all full slots: how long a rank waits for the most loaded one, by the rows of each stream and by the whole cost. "
        f"With {plot_charts.name(chosen)} it is {text.percent(chosen.waste['cost'])} of the cost."
    )
    return _card(figures, "waste", "Idle share of each stream", plot_charts.waste(data), caption)


def _fills(data: PlotData, figures: dict[str, charts.Figure]) -> str:
    cards = []
    for i, stream in enumerate(data.streams):
        chosen = data.methods[0]
        of = "cap" if data.caps[stream] is not None else "largest pack (the stream has no cap)"
        reference = text.count(chosen.fill_reference[stream])
        caption = f"Share of the packs by how full they are in {stream}; 100 % is the {of}, {reference} rows. Bars: {plot_charts.name(chosen)}."
        above = [method for method in data.methods if method.fill_counts[stream][-1]]
        if above:
            caption += (
                " Right of 100 %: all packs above it (" + ", ".join(plot_charts.name(method) for method in above) + ")."
            )
        figure = plot_charts.fill(data, stream)
        if any("visible" in trace for trace in figure["data"]):
            caption += " A click on a name shows or hides a method."
        cards.append(_card(figures, f"fill-{i}", stream, figure, caption, wide=len(data.streams) == 1, log=True))
    return "".join(cards)


def _curve(key: str, curve: CapCurve, figures: dict[str, charts.Figure]) -> str:
    if not curve.points:
        return ""
    best = min(curve.points, key=lambda point: point.cost_per_sample)
    chosen = (
        f"The smallest cap within 0.1 % of the least was chosen: {text.count(curve.cap)}."
        if curve.auto
        else f"The cap in use is {text.count(curve.cap)}; the least is at {text.count(best.cap)}."
    )
    caption = (
        f"Predicted cost of a sample for each cap of {curve.stream}, the other caps kept; less is better. The bars are the spread over "
        f"resampled data. A closed form starts the search at {text.count(curve.closed_form)}. {chosen}"
    )
    return _card(figures, key, f"Cap of {curve.stream}", plot_charts.cap_curve(curve), caption)


def _sources(data: PlotData) -> str:
    if len(data.sources) < 2 and all(source.weight == 1 for source in data.sources):
        return ""
    total = max(sum(source.drawn for source in data.sources), 1)
    rows = "".join(
        f'<tr><td style="width:auto">{escape(source.name)}</td><td>{source.samples:,}</td><td>{source.weight:g}</td><td>{source.drawn:,}</td>'
        f"<td>{text.percent(source.drawn / total)}</td></tr>"
        for source in data.sources
    )
    head = "<tr><th>source</th><th>samples</th><th>weight</th><th>in this epoch</th><th>share</th></tr>"
    return f'<div class="card wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>'


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m gimbal.balance.plot",
        description="Draws what `gimbal balance --plot` found as one HTML page that needs no network.",
    )
    result.add_argument("data", metavar="DATA.json", help="the figures, as written by `gimbal balance`")
    result.add_argument("--out", metavar="FILE", required=True, help="the page")
    return result


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 after a message on stderr."""
    args = parser().parse_args(arguments)
    try:
        write(render(read_plot_data(args.data)), Path(args.out))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def write(content: str, out: Path) -> None:
    # A reader never sees half a page.
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        partial.write_text(content, encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{out}: can't be written ({error.strerror}); choose another file with --plot") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
