"""Numbers and keys as people read them."""

from __future__ import annotations

from typing import Any

_SI = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_BINARY = (("TiB", 2.0**40), ("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10))


def count(value: float) -> str:
    """1234567 -> 1.23 M; below 10,000 in full."""
    if abs(value) < 10_000:
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
    for unit, size in _SI:
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    raise AssertionError(value)


def size(value: float) -> str:
    """1.5 MiB, 700 MiB, 1010 MiB."""
    for unit, scale in _BINARY:
        # From where the unit below would be written as 1024.
        if abs(value) >= scale * 1023.5 / 1024:
            # 1,000 to 1,023 of a unit: "g" would write them as 1e+03.
            return f"{value / scale:.3g} {unit}" if abs(value) < 999.5 * scale else f"{value / scale:.0f} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def percent(share: float) -> str:
    return f"{share * 100:.3g} %" if share < 0.995 or share > 1 else f"{share * 100:.4g} %"


def label(key: str) -> str:
    """`loss_tokens` -> `loss tokens`; the unit at the end of a key is shown with the value."""
    for ending in ("_bytes", "_seconds"):
        key = key.removesuffix(ending)
    return key.replace("_bytes.", ".").replace("_", " ").replace(".", " · ")


def value(key: str, item: Any) -> str:
    """Formats by the unit that the key names."""
    name = key.rsplit(".", 1)[-1]
    if isinstance(item, bool):
        return "yes" if item else "no"
    if not isinstance(item, (int, float)):
        return "–" if item is None else str(item)
    if any(part.endswith("bytes") for part in key.split(".")):
        return size(item)
    if name.endswith("_seconds") or name in ("seconds", "eta"):
        return duration(item)
    if name.endswith("per_second"):
        return count(item) + "/s"
    if name in ("exact_match", "peak_share", "waste", "cost_waste", "fill", "share") or name.endswith("_share"):
        return percent(item)
    if float(item).is_integer():
        return count(item)
    return f"{item:.5g}"


def flatten(record: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested objects as dotted keys, those in lists by their number; lists of plain values as one text."""
    rows: list[tuple[str, Any]] = []
    for key, item in record.items():
        if isinstance(item, dict):
            rows += flatten(item, f"{prefix}{key}.")
        elif isinstance(item, list) and any(isinstance(entry, dict) for entry in item):
            rows += flatten({str(number): entry for number, entry in enumerate(item)}, f"{prefix}{key}.")
        elif isinstance(item, list):
            rows.append((prefix + key, ", ".join(value(key, entry) for entry in item)))
        else:
            rows.append((prefix + key, item))
    return rows
