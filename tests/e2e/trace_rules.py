"""The rules of the Trace Event Format that viewers rely on, for the events that Gimbal writes."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

Event = dict[str, Any]


def read_trace(path: Path) -> list[Event]:
    """The events, after all rules have been checked."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    trace = json.loads(path.read_text(), parse_constant=refuse)
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"} and trace["displayTimeUnit"] == "ms"
    events = trace["traceEvents"]
    assert isinstance(events, list) and events
    for event in events:
        _check_keys(event)
    _check_names(events)
    slices = _check_slices([event for event in events if event["ph"] == "X"])
    _check_flows([event for event in events if event["ph"] in "sf"], slices)
    return events


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_keys(event: Event) -> None:
    assert event["ph"] in ("M", "X", "C", "s", "f"), event
    assert isinstance(event["name"], str) and event["name"]
    assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
    if event["ph"] != "M":
        assert _number(event["ts"]) and event["ts"] >= 0, event
    if event["ph"] == "X":
        assert _number(event["dur"]) and event["dur"] >= 0, event
        assert isinstance(event["cat"], str) and isinstance(event["args"], dict)
    if event["ph"] == "C":
        assert event["args"] and all(_number(value) and value >= 0 for value in event["args"].values()), event
    if event["ph"] in "sf":
        assert isinstance(event["cat"], str) and isinstance(event["id"], int)
        assert (event.get("bp") == "e") == (event["ph"] == "f")


def _check_names(events: list[Event]) -> None:
    threads = {(event["pid"], event["tid"]) for event in events if event["ph"] == "X"}
    metadata = [event for event in events if event["ph"] == "M"]
    assert {event["name"] for event in metadata} == {"process_name", "thread_name", "thread_sort_index"}
    named = [(event["pid"], event["tid"]) for event in metadata if event["name"] == "thread_name"]
    assert sorted(named) == sorted(threads)
    assert sorted(event["pid"] for event in metadata if event["name"] == "process_name") == sorted({pid for pid, _ in threads})


def _nanoseconds(microseconds: float) -> int:
    return round(microseconds * 1000)


def _check_slices(events: list[Event]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """(start, end) in nanoseconds of each thread, in order; they do not overlap."""
    threads: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in events:
        start = _nanoseconds(event["ts"])
        threads[event["pid"], event["tid"]].append((start, start + _nanoseconds(event["dur"])))
    for slices in threads.values():
        assert all(before[1] <= after[0] for before, after in zip(slices, slices[1:]))
    return threads


def _check_flows(events: list[Event], slices: dict[tuple[int, int], list[tuple[int, int]]]) -> None:
    """Each arrow has one start inside a slice and one end at the beginning of a later one."""
    arrows: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        arrows[event["id"]].append(event)
    starts = {thread: {start for start, _ in spans} for thread, spans in slices.items()}
    ends = {thread: {max(start, end - 1) for start, end in spans} for thread, spans in slices.items()}
    for first, last, *more in arrows.values():
        assert not more and (first["ph"], last["ph"]) == ("s", "f")
        assert (first["name"], first["cat"], first["pid"]) == (last["name"], last["cat"], last["pid"])
        assert first["ts"] <= last["ts"] and first["tid"] != last["tid"]
        assert _nanoseconds(first["ts"]) in ends[first["pid"], first["tid"]]
        assert _nanoseconds(last["ts"]) in starts[last["pid"], last["tid"]]
