"""The page's tables of the ranks and of what they have said to each other."""

from __future__ import annotations

from html import escape
from typing import Any

from gimbal.report import text
from gimbal.report.communication import communication_rows
from gimbal.report.metrics import Metrics, dicts, finite

_MOST_RANKS = 64


def table(head: list[str], rows: list[list[str]], numbers: int) -> str:
    """The last `numbers` columns hold numbers."""

    def line(tag: str, cells: list[str]) -> str:
        first = len(cells) - numbers
        return "<tr>" + "".join(
            f'<{tag}{" class=num" if i >= first else ""}>{escape(cell)}</{tag}>' for i, cell in enumerate(cells)
        ) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{line("th", head)}</thead><tbody>{body}</tbody></table></div>'


def _card(title: str, hint: str, content: str) -> str:
    return (
        f'<div class="card wide"><div class="card-head"><h3>{escape(title)}</h3></div>'
        f'<p class="hint">{escape(hint)}</p>{content}</div>'
    )


def _size(item: Any) -> str:
    number = finite(item)
    return "–" if number is None else text.size(number)


def _of_last_mesh(metrics: Metrics) -> str:
    """What hints end with when the run has changed its mesh."""
    return f" Of the last mesh only: {metrics.meshes[-1].mesh}." if len(metrics.meshes) > 1 else ""


def mesh_card(metrics: Metrics) -> str:
    """The meshes of a run that has changed its mesh, with their steps; nothing for others."""
    parts = metrics.meshes
    if len(parts) < 2:
        return ""
    newest = max((record["step"] for record in metrics.train + metrics.skipped), default=0)
    rows = []
    for part, last in zip(parts, [*(part.begin for part in parts[1:]), newest], strict=True):
        processes = "–" if part.processes is None else text.count(part.processes)
        rows.append([part.mesh, processes, f"{part.begin + 1:,} to {last:,}" if last > part.begin else "none yet"])
    hint = (
        "The run has changed its mesh. What this section says of memory, ranks, communication and predictions is of the "
        "last one; the charts show the steps of all."
    )
    return _card("Meshes", hint, table(["mesh", "processes", "steps"], rows, 2))


def rank_card(metrics: Metrics) -> str:
    """Where each rank is, what it has, and what it held at most; nothing for one process."""
    facts = dicts(metrics.summary.get("rank_facts"))
    if len(facts) < 2:
        return ""
    peaks = {entry.get("rank"): entry for entry in dicts(metrics.prediction.get("ranks"))}
    rows = []
    for entry in facts[:_MOST_RANKS]:
        peak = peaks.get(entry.get("rank"), {})
        activations = peak.get("activation_peak_bytes")
        activations = activations if isinstance(activations, dict) else {}
        blocks = entry.get("blocks")
        rows.append(
            [
                str(entry.get("rank")), str(entry.get("coordinates") or "–"), str(entry.get("host") or "–"),
                "; ".join(map(str, blocks)) if isinstance(blocks, list) and blocks else "–",
                _size(entry.get("state_bytes")), _size(peak.get("total_peak_bytes")),
                _size(activations.get("measured")), _size(activations.get("predicted")),
            ]
        )  # fmt: skip
    head = ["rank", "place", "host", "blocks", "held before step 1", "held at most", "activations", "activations predicted"]
    hint = "Tensors in memory. The last three are known at the end of a run."
    if len(facts) > _MOST_RANKS:
        hint += f" {len(facts) - _MOST_RANKS:,} more ranks are not shown."
    return _card("Ranks", hint + _of_last_mesh(metrics), table(head, rows, 4))


def communication_card(metrics: Metrics) -> str:
    """Nothing for one process."""
    record = metrics.communication
    rows = [
        [row.axis, row.call, text.count(row.calls), text.size(row.bytes), text.size(row.step_bytes), text.duration(row.wait_seconds)]
        for row in communication_rows(record)
    ]
    if not rows:
        return ""
    steps = finite(record.get("steps")) or 0
    hint = f"Mean of the ranks over {text.count(steps)} steps: what a rank received (send: sent), and how long it waited for it."
    head = ["axis", "call", "calls", "bytes", "bytes a step", "waited"]
    return _card("Communication", hint + _of_last_mesh(metrics), table(head, rows, 4))
