"""Checkpoints as lines of text."""

from __future__ import annotations

import math
from typing import Any

from gimbal.inspect.checkpoint import DTYPE_BYTES

_MEBI = 1 << 20


def format_checkpoint(value: dict[str, Any], verified: bool, every_parameter: bool = False) -> list[str]:
    """Lines of text for what checkpoint.to_value gives; the parameters by parts of the model, or each."""
    lines = [f"{value['checkpoint']}: " + _verdict(value, verified)]
    lines += [f"  {problem}" for problem in value["problems"]]
    state = value["state"]
    if state:
        lines.append(f"  step {state['step']:,} (epoch {state['epoch']}, step {state['step_in_epoch']:,} of it), stage '{state['stage']}'")
        lines.append(f"  {state['samples']:,} samples, {state['tokens']:,} tokens, {state['loss_tokens']:,} with loss")
        lines.append(f"  written by {value['mesh'] or 'one rank'}, format version {value['version']}")
    if value["files"]:
        lines.append("files:")
        wide = max(len(f"{size:,}") for size in value["files"].values())
        lines += [f"  {size:>{wide},} bytes  {name}" for name, size in sorted(value["files"].items())]
    if value["parameters"]:
        lines.append(_headline(value["parameters"], value["optimizer"]))
        lines += _format_each(value["parameters"]) if every_parameter else _format_parts(value["parameters"])
    return lines


def _verdict(value: dict[str, Any], verified: bool) -> str:
    if not value["ok"]:
        return "DAMAGED or incomplete"
    return "complete and undamaged" if verified else "complete (--verify also compares checksums)"


def _headline(parameters: dict[str, Any], optimizer: dict[str, Any]) -> str:
    numel = sum(math.prod(entry["shape"]) for entry in parameters.values())
    trained = sum(f"{name}.first_moment" in optimizer for name in parameters)
    return f"parameters: {len(parameters):,}, {numel:,} values; {trained:,} with optimizer state"


def _format_each(parameters: dict[str, Any]) -> list[str]:
    wide = max(map(len, parameters))
    return [
        f"  {name:<{wide}}  {entry['dtype']:<4}  {entry['shape']}  {_count(entry['pieces'], 'piece')}"
        for name, entry in sorted(parameters.items())
    ]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def parts_of(parameters: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Parts of the model by name, each with its `layers` (0: no series of layers), `parameters`, `values` and `bytes`.

    What is numbered belongs together: "text.0.mlp.w" and "text.1.mlp.w" are in "text layers". Beside such a series its
    other blocks are parts of their own ("text.head"); elsewhere the first word is the part.
    """
    words_of = {name: name.split(".") for name in parameters}
    series = {words[0] for words in words_of.values() if len(words) > 1 and words[1].isdigit()}
    parts: dict[str, dict[str, int]] = {}
    numbers: dict[str, set[str]] = {}
    for name, entry in parameters.items():
        words = words_of[name]
        in_series = len(words) > 1 and words[1].isdigit()
        part = f"{words[0]} layers" if in_series else ".".join(words[: 2 if words[0] in series else 1])
        if in_series:
            numbers.setdefault(part, set()).add(words[1])
        sums = parts.setdefault(part, {"layers": 0, "parameters": 0, "values": 0, "bytes": 0})
        numel = math.prod(entry["shape"])
        sums["parameters"] += 1
        sums["values"] += numel
        sums["bytes"] += numel * DTYPE_BYTES[entry["dtype"]]
    for part, found in numbers.items():
        parts[part]["layers"] = len(found)
    return parts


def _format_parts(parameters: dict[str, Any]) -> list[str]:
    rows = [("part", "layers", "parameters", "values", "MiB")]
    for part, sums in sorted(parts_of(parameters).items()):
        layers = str(sums["layers"]) if sums["layers"] else "-"
        rows.append((part, layers, f"{sums['parameters']:,}", f"{sums['values']:,}", f"{sums['bytes'] / _MEBI:,.2f}"))
    return [*format_columns(rows, left=1), "  (--parameters lists each)"]


def format_columns(rows: list[tuple[str, ...]], left: int) -> list[str]:
    """Lines of a table; the first `left` columns begin at the left, the others end at the right."""
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{cell:<{size}}" if i < left else f"{cell:>{size}}" for i, (cell, size) in enumerate(zip(row, wide, strict=True))]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines
