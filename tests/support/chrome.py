"""A reader of Chrome traces that is stricter than the viewers: what it takes, they draw as it was meant."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Event = dict[str, Any]
EXACT = 0.002
"""Microseconds by which times may be off through rounding."""


def read_trace(path: Path) -> list[Event]:
    """Return the events of a file that has to be complete and valid; metadata and all."""
    events: list[Event] = json.loads(path.read_text())
    check_events(events)
    return events


def check_events(events: list[Event]) -> None:
    """Fail unless every event has what its kind needs, rows are named, spans nest and ways lead somewhere."""
    assert isinstance(events, list)
    for event in events:
        assert event["ph"] in "MXiCstf", event
        assert event["name"] and isinstance(event["name"], str)
        for key in ("pid", "tid"):
            assert isinstance(event[key], int), event
        assert isinstance(event["ts"], int | float) and event["ts"] >= 0, event
        if event["ph"] == "X":
            assert event["dur"] >= 0, event
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values()), event
    processes = {event["pid"] for event in metadata(events, "process_name")}
    rows = {(event["pid"], event["tid"]) for event in metadata(events, "thread_name")}
    for event in events:
        assert event["pid"] in processes, event
        assert event["ph"] in "MC" or (event["pid"], event["tid"]) in rows, event
    _check_nesting(events)
    _check_ways(events)


def _check_nesting(events: list[Event]) -> None:
    rows: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in spans(events):
        rows[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for row, intervals in rows.items():
        around: list[tuple[float, float]] = []
        for begin, end in sorted(intervals, key=lambda interval: (interval[0], -interval[1])):
            while around and begin >= around[-1][1] - EXACT:
                around.pop()
            assert not around or end <= around[-1][1] + EXACT, (row, around[-1], (begin, end))
            around.append((begin, end))


def _check_ways(events: list[Event]) -> None:
    places = defaultdict(list)
    for event in spans(events):
        places[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    stations: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for event in events:
        if event["ph"] in "stf":
            int(event["id"], 16)
            assert event["cat"] and event["bp"] == "e"
            at = event["ts"]
            within = places[event["pid"], event["tid"]]
            assert any(begin - EXACT <= at <= end + EXACT for begin, end in within), f"no span around {event}"
            stations[event["id"]].append((at, event["ph"]))
    for way, found in stations.items():
        is_open = False
        for _, kind in sorted(found, key=lambda station: (station[0], "stf".index(station[1]))):
            assert kind != "f" or is_open, f"way {way} ends where none began: {found}"
            is_open = kind == "s" or (is_open and kind == "t")


def metadata(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event["ph"] == "M" and event["name"] == name]


def spans(events: list[Event]) -> list[Event]:
    return [event for event in events if event["ph"] == "X"]


def process_names(events: list[Event]) -> list[str]:
    """Return the processes' names, in the order in which a viewer shows them."""
    names = {event["pid"]: event["args"]["name"] for event in metadata(events, "process_name")}
    places = {event["pid"]: event["args"]["sort_index"] for event in metadata(events, "process_sort_index")}
    return [names[pid] for pid in sorted(names, key=lambda pid: places[pid])]


def row_names(events: list[Event], process: str) -> list[str]:
    """Return the names of a process's rows, in the order in which a viewer shows them."""
    pid = next(e["pid"] for e in metadata(events, "process_name") if e["args"]["name"] == process)
    names = {e["tid"]: e["args"]["name"] for e in metadata(events, "thread_name") if e["pid"] == pid}
    places = {e["tid"]: e["args"]["sort_index"] for e in metadata(events, "thread_sort_index") if e["pid"] == pid}
    return [names[tid] for tid in sorted(names, key=lambda tid: places[tid])]
