"""Puts the page together: tiles, charts, tables, samples; one HTML text without any reference to the network."""

from __future__ import annotations

import datetime
import json
from html import escape
from importlib.resources import files
from statistics import median
from typing import Any

from gimbal import __version__
from gimbal.report import charts, text
from gimbal.report.metrics import finite
from gimbal.report.ranks import communication_card, mesh_card, rank_card
from gimbal.report.runs import Run, Stage
from gimbal.report.samples import Card, Cards, Part, make_cards


def render(run: Run, *, most_samples: int = 60, now: datetime.datetime | None = None) -> str:
    """Returns the page as text."""
    figures: dict[str, charts.Figure] = {}
    shown = next((stage for stage in reversed(run.stages) if stage.predictions), run.stages[-1])
    cards = make_cards(shown, most_samples)
    notes = [note if len(run.stages) == 1 else f"{stage.name}: {note}" for stage in run.stages for note in stage.notes]
    if cards.problem:
        notes.append(f"Some samples are not shown: {cards.problem}")
    body = [
        _header(run),
        _list("notes", notes),
        _tiles(run),
        section("Training", "", _training(run, figures)),
        section("Speed", "", _speed(run, figures)),
        section(
            "Balance",
            "A rank is idle while it waits for the busiest one of the same step. Strong colours mark idle time: single spots come "
            "from uneven packs, and a rank that stays pale while all others are coloured is a slow one.",
            _balance(run, figures),
        ),
        section("Where the time goes", "Rank 0, step by step.", _time(run, figures)),
        _skipped(run),
        _samples(shown, cards, many=len(run.stages) > 1),
        "".join(_tables(stage, many=len(run.stages) > 1) for stage in run.stages),
        f"<footer>Written by gimbal {__version__}, {(now or datetime.datetime.now()):%Y-%m-%d %H:%M}</footer>",
    ]
    return document(run.name, "\n".join(part for part in body if part), figures)


def document(title: str, body: str, figures: dict[str, charts.Figure]) -> str:
    from plotly.offline import get_plotlyjs

    assets = files("gimbal.report") / "assets"
    css, script = ((assets / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # "</" would end the script element early.
    data = json.dumps(figures, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)} · Gimbal report</title>\n<link rel="icon" href="data:,">\n<style>\n{css}</style>\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n"
        f'<script type="application/json" id="figures">{data}</script>\n'
        f"<script>{get_plotlyjs()}</script>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def _header(run: Run) -> str:
    state = '<span class="pill good">finished</span>' if run.finished else '<span class="pill">not finished</span>'
    last = run.stages[-1]
    what = f"step {last.last_step:,}" if last.metrics.train else "no step logged yet"
    if len(run.planned_stages) > 1:
        what = f"stage {run.planned_stages.index(last.name) + 1} of {len(run.planned_stages)} ({last.name}), {what}"
    return (
        f'<header><div><h1>{escape(run.name)} {state}</h1><p class="hint">{escape(what)} · {escape(str(run.folder))}</p></div>'
        '<button id="theme" type="button">Dark</button></header>'
    )


def _tiles(run: Run) -> str:
    last = run.stages[-1]
    tiles: list[tuple[str, str]] = []

    def add(name: str, key: str, value: Any) -> None:
        if (number := finite(value)) is not None:
            tiles.append((name, text.value(key, number)))

    evaluated = next((stage for stage in reversed(run.stages) if stage.evaluation), last)
    final_eval = evaluated.evaluation or (last.metrics.evals[-1] if last.metrics.evals else {})
    add("exact match, held-out", "exact_match", final_eval.get("exact_match"))
    add("loss, held-out", "loss", final_eval.get("loss"))
    losses = [number for number in last.metrics.column("loss") if number is not None]
    if losses:
        add("training loss, last steps", "loss", sum(losses[-10:]) / len(losses[-10:]))
    for name, key in (
        ("text tokens, median", "tokens_per_second"), ("images, median", "images_per_second"),
        ("of peak FLOP/s, median", "peak_share"), ("idle by packing, median", "waste"),
    ):
        column = [number for number in last.metrics.column(key) if number is not None]
        if any(column):
            add(name, key, median(column))
    add("steps", "steps", sum(stage.last_step for stage in run.stages) or None)
    seconds = [finite(stage.metrics.train[-1].get("elapsed_seconds")) for stage in run.stages if stage.metrics.train]
    if seconds and None not in seconds:
        add("training time", "elapsed_seconds", sum(seconds))
    cells = "".join(f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles)
    return f'<div class="tiles">{cells}</div>' if cells else ""


def _chart(figures: dict[str, charts.Figure], key: str, title: str, figure: charts.Figure | None, *, wide: bool = False,
           log: bool = False) -> str:
    if figure is None:
        return ""
    figures[key] = figure
    button = f'<button type="button" data-log-of="{key}" aria-pressed="false">log</button>' if log else ""
    return (
        f'<div class="card{" wide" if wide else ""}"><div class="card-head"><h3>{escape(title)}</h3>{button}</div>'
        f'<div class="plot" id="{key}"></div></div>'
    )


def _training(run: Run, figures: dict[str, charts.Figure]) -> str:
    if not any(stage.metrics.train for stage in run.stages):
        return '<div class="card wide"><p class="hint">No training step was logged yet.</p></div>'
    match = charts.exact_match(run)
    return "".join(
        [
            _chart(figures, "loss", "Loss per loss token", charts.loss(run), wide=True, log=True),
            _chart(figures, "match", "Exact match on held-out answers", match, wide=True),
            _chart(figures, "lr", "Learning rate", charts.series(run, "lr", "learning rate", "var(--series-5)",
                                                                 {"exponentformat": "power"})),
            _chart(figures, "norm", "Gradient norm", charts.series(run, "grad_norm", "gradient norm", "var(--series-1)"), log=True),
        ]
    )


def _speed(run: Run, figures: dict[str, charts.Figure]) -> str:
    parts = (
        ("tokens_per_second", "Text tokens per second", "var(--series-1)", None),
        ("images_per_second", "Images per second", "var(--series-2)", None),
        ("flops_per_second", "Model FLOP per second", "var(--series-5)", {"tickformat": "~s"}),
        ("peak_share", "Share of this machine's measured peak", "var(--series-3)", {"tickformat": ".0%"}),
    )
    return "".join(_chart(figures, key, title, charts.series(run, key, title, color, y)) for key, title, color, y in parts)


def _balance(run: Run, figures: dict[str, charts.Figure]) -> str:
    return _chart(figures, "ranks", "Idle share of each rank", charts.rank_heat(run), wide=True) + _chart(
        figures, "waste", "Idle share, mean over the ranks", charts.waste(run), wide=True
    )


def _time(run: Run, figures: dict[str, charts.Figure]) -> str:
    return _chart(figures, "time", "Seconds of a step", charts.time_split(run), wide=True)


def section(title: str, hint: str, content: str) -> str:
    if not content:
        return ""
    hint = f'<p class="hint">{escape(hint)}</p>' if hint else ""
    return f'<section><h2>{escape(title)}</h2>{hint}<div class="grid">{content}</div></section>'


def _list(style: str, items: list[str]) -> str:
    return f'<ul class="{style}">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>" if items else ""


def _skipped(run: Run) -> str:
    rows = [(stage, record) for stage in run.stages for record in stage.metrics.skipped]
    if not rows:
        return ""
    head = "<tr><th>step</th><th>why</th><th>samples in question</th></tr>"
    cells = []
    for stage, record in rows[:100]:
        where = str(record["step"]) if len(run.stages) == 1 else f"{stage.name}, {record['step']}"
        samples = ", ".join(map(str, record.get("samples") or [])) or "–"
        reason = f"loss {record.get('loss', '?')}, gradient norm {record.get('grad_norm', '?')}"
        cells.append(f"<tr><td>{escape(where)}</td><td>{escape(reason)}</td><td>{escape(samples)}</td></tr>")
    more = f'<p class="hint">and {len(rows) - 100} more</p>' if len(rows) > 100 else ""
    table = f'<div class="card wide"><table><thead>{head}</thead><tbody>{"".join(cells)}</tbody></table>{more}</div>'
    return section(f"Skipped steps ({len(rows)})", "The weights were left as they were.", table)


def _samples(stage: Stage, cards: Cards, *, many: bool) -> str:
    if not cards.cards:
        return ""
    title = f"Held-out answers ({stage.name})" if many else "Held-out answers"
    hint = f"{len(cards.cards)} of {cards.total:,} answers, {cards.wrong:,} of them wrong; wrong ones are shown first and more often."
    shown_wrong = sum(not card.match for card in cards.cards)
    filters = "".join(
        f'<button type="button" data-filter="{key}" aria-pressed="{str(key == "all").lower()}">{name}</button>'
        for key, name in (
            ("all", f"all {len(cards.cards)}"), ("wrong", f"wrong {shown_wrong}"), ("right", f"right {len(cards.cards) - shown_wrong}"),
        )
    )
    items = "".join(_card(card) for card in cards.cards)
    return (
        f'<section><h2>{escape(title)}</h2><p class="hint">{escape(hint)}</p><div class="filters">{filters}</div>'
        f'<div class="samples">{items}</div></section>'
    )


def _card(card: Card) -> str:
    earlier = ""
    if card.earlier:
        turns = _parts(card.earlier, roles=True)
        earlier = f'<details><summary>earlier in the conversation</summary><div class="earlier">{turns}</div></details>'
    mark = '<span class="pill good">right</span>' if card.match else '<span class="pill bad">wrong</span>'
    return (
        f'<article class="card sample {"right" if card.match else "wrong"}"><div class="where"><span>sample {card.sample} · '
        f"{escape(card.where)}</span>{mark}</div>{earlier}{_parts(card.question)}"
        f'<div class="answer"><span>reference</span><b>{escape(card.reference)}</b>'
        f'<span>predicted</span><b class="said">{escape(card.predicted) or "(nothing)"}</b></div></article>'
    )


def _parts(parts: list[Part], *, roles: bool = False) -> str:
    html, pictures = [], []

    def flush() -> None:
        if pictures:
            style = "pictures several" if len(pictures) > 1 else "pictures"
            html.append(f'<div class="{style}">{"".join(pictures)}</div>')
            pictures.clear()

    for part in parts:
        if part.kind == "image":
            pictures.append(_picture(part))
        else:
            flush()
            role = f"<b>{escape(part.role)}:</b> " if roles and part.role else ""
            html.append(f"<p>{role}{escape(part.text)}</p>")
    flush()
    return "".join(html)


def _picture(part: Part) -> str:
    if not part.image:
        return '<span class="lost">picture not found</span>'
    # Very small pictures are shown enlarged, with their pixels visible.
    tiny = part.width <= 64
    width = max(72, part.width) if tiny else part.width
    return f'<img src="{part.image}" width="{width}" alt=""{" class=tiny" if tiny else ""} loading="lazy">'


def _compared(prediction: dict[str, Any]) -> dict[str, str]:
    """One line per figure that was predicted: "1.2 GiB, predicted 1.1 GiB (+9.1 %)"."""
    lines: dict[str, str] = {}

    def add(name: str, key: str, figure: Any) -> None:
        if not isinstance(figure, dict):
            return
        measured, predicted = finite(figure.get("measured")), finite(figure.get("predicted"))
        if measured is None or predicted is None:
            return
        off = f" ({100 * (measured / predicted - 1):+.1f} %)" if predicted > 0 else ""
        lines[name] = f"{text.value(key, measured)}, predicted {text.value(key, predicted)}{off}"

    for key in ("activation_peak_bytes", "peak_bytes", "step_seconds"):
        add(text.label(key), key, prediction.get(key))
    classes = prediction.get("classes")
    for entry in classes if isinstance(classes, list) else []:
        for way in ("forward", "backward"):
            add(f"{text.label(str(entry.get('class')))} {way}", "seconds", entry.get(way))
    return lines


# What the figures of memory count: they differ, and look alike.
_ESTIMATED = (
    "fit · needed counts tensors, and what the program itself held before the first step. It is not the peak resident of the "
    "end, which the system counts."
)
_RESIDENT = (
    "peak resident: what the system counted for the process of rank 0. It has more than fit · needed counts: memory that the "
    "allocator keeps for later, what libraries take as they run, decoded pictures."
)
_TENSORS = "Bytes are those of tensors, not what the system counts for the process (peak resident)."


def _tables(stage: Stage, *, many: bool) -> str:
    def table(title: str, record: dict[str, Any], hint: str = "") -> str:
        rows = "".join(
            f"<tr><th>{escape(text.label(key))}</th><td>{escape(text.value(key, value))}</td></tr>"
            for key, value in text.flatten(record)
            if key != "kind"
        )
        hint = f'<p class="hint">{escape(hint)}</p>' if hint else ""
        return f'<div class="card"><div class="card-head"><h3>{escape(title)}</h3></div>{hint}<table>{rows}</table></div>' if rows else ""

    summary = {key: value for key, value in stage.metrics.summary.items() if key != "rank_facts"}
    content = table("Before the first step", summary, _ESTIMATED if "fit" in summary else "")
    content += table("At the end", stage.final, _RESIDENT if "peak_resident_bytes" in stage.final else "")
    content += table("Predicted and measured", _compared(stage.metrics.prediction), _TENSORS)
    content += table("Evaluation", stage.evaluation)
    content += mesh_card(stage.metrics) + rank_card(stage.metrics) + communication_card(stage.metrics)
    if stage.recipe:
        content += (
            '<div class="card wide"><details><summary>The complete recipe</summary>'
            f"<pre>{escape(stage.recipe)}</pre></details></div>"
        )
    return section(f"Summary of stage {stage.name}" if many else "Summary", "", content)
