"""Histograms of lengths, as numbers and as text."""

from __future__ import annotations

from typing import Any

import numpy as np

_BAR = 40


def histogram(values: np.ndarray, max_bins: int = 12) -> dict[str, Any]:
    """Counts in bins of equal width (a round number), with mean and percentiles. Bins are [low, high)."""
    if not len(values):
        return {"count": 0, "bins": []}
    values = values.astype(np.int64)
    low, high = int(values.min()), int(values.max())
    width = _round_width(high - low + 1, max_bins)
    first = low // width * width
    edges = np.arange(first, high + width + 1, width)
    counts, _ = np.histogram(values, edges)
    bins = [[int(a), int(a) + width, int(n)] for a, n in zip(edges, counts)]
    while bins and not bins[-1][2]:
        bins.pop()
    percentiles = np.percentile(values, [50, 90, 99], method="lower")
    return {
        "count": len(values),
        "min": low,
        "mean": float(values.mean()),
        "p50": int(percentiles[0]),
        "p90": int(percentiles[1]),
        "p99": int(percentiles[2]),
        "max": high,
        "bins": bins,
    }


def _round_width(extent: int, max_bins: int) -> int:
    scale = 1
    while True:
        for step in (1, 2, 5):
            # One bin more may be needed, because the first begins at a multiple of the width.
            if step * scale * (max_bins - 1) >= extent:
                return step * scale
        scale *= 10


def format_histogram(title: str, values: dict[str, Any]) -> list[str]:
    """Lines of text with a bar for each bin."""
    if not values["count"]:
        return [f"{title}: none"]
    lines = [
        f"{title}: min {values['min']:,}  mean {values['mean']:,.1f}  p50 {values['p50']:,}  "
        f"p90 {values['p90']:,}  p99 {values['p99']:,}  max {values['max']:,}"
    ]
    most = max(count for _, _, count in values["bins"])
    wide = max(len(f"{high - 1:,}") for _, high, _ in values["bins"])
    for low, high, count in values["bins"]:
        label = f"{low:>{wide},}" + (f" .. {high - 1:>{wide},}" if high - low > 1 else "")
        # A bin that isn't empty shows at least a dot.
        bar = "#" * round(_BAR * count / most) or ("." if count else "")
        lines.append(f"  {label}  {bar:<{_BAR}}  {count:,}")
    return lines
