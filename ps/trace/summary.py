"""Summary: a trace in a few numbers: where each process's time went, and how long a chunk takes. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ps.dataclass import dataclass
from ps.trace.events import HEADER
from ps.trace.trace import BEGIN, END, LANES

WAY = "way"
"""The column for the time from where a worker begins to send a chunk to where its answer lands."""
STAGES = (("worker", "send"), ("server", "receive"), ("server", "apply"), ("server", "send"), ("worker", "land"))
"""What happens to a chunk, in this order."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ProcessTime:
    """One process: its name, its seconds from first to last event, and the share of them that each lane was busy.

    Lanes may overlap: what lands does so while the worker waits.
    """

    name: str
    seconds: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ChunkTime:
    """One chunk, or all (None): how often it was exchanged, and the median milliseconds of each stage."""

    chunk: int | None
    count: int
    medians: Mapping[str, float]


def summarize(events: Iterable[Mapping[str, Any]]) -> tuple[list[ProcessTime], list[ChunkTime]]:
    """Return the processes in their order, and the chunks by number, behind a row for all of them."""
    names: dict[int, str] = {}
    places: dict[int, int] = {}
    roles: dict[int, str] = {}
    rows: dict[tuple[int, int], str] = {}
    spans: dict[int, dict[int, list[Interval]]] = defaultdict(lambda: defaultdict(list))
    stages: dict[tuple[int, int], list[tuple[int, float]]] = defaultdict(list)
    begun: dict[str, float] = {}
    times: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    for event in events:
        pid, tid, at, args = event["pid"], event["tid"], event["ts"], event.get("args") or {}
        match event["ph"], event.get("name"):
            case "M", str(name) if name == HEADER:
                roles[pid] = args["role"]
            case "M", "process_name":
                names[pid] = args["name"]
            case "M", "process_sort_index":
                places[pid] = args["sort_index"]
            case "M", "thread_name":
                rows[pid, tid] = args["name"].split()[0]
            case "X", _:
                spans[pid][tid].append((at, at + event["dur"]))
                if "chunk" in args:
                    stages[pid, tid].append((args["chunk"], event["dur"]))
            case str(station), _ if station == BEGIN:
                begun[event["id"]] = at
            case str(station), _ if station == END and event["id"] in begun:
                times[int(event["id"], 16) & 0xFFFFF][WAY].append(at - begun.pop(event["id"]))

    for (pid, tid), durations in stages.items():
        stage = stage_name(roles.get(pid, ""), rows.get((pid, tid), ""))
        for chunk, took in durations:
            times[chunk][stage].append(took)
    ordered = sorted(spans, key=lambda pid: (places.get(pid, 0), pid))
    lanes = {pid: {tid: rows.get((pid, tid), "") for tid in spans[pid]} for pid in ordered}
    found = [_process(names.get(pid, str(pid)), spans[pid], lanes[pid]) for pid in ordered]
    return found, list(_chunks(times))


def stage_name(role: str, lane: str) -> str:
    """Return the name of a stage's column."""
    return f"{role} {lane}"


def _process(name: str, spans: Mapping[int, list[Interval]], lanes: Mapping[int, str]) -> ProcessTime:
    every = [interval for intervals in spans.values() for interval in intervals]
    length = max(end for _, end in every) - min(begin for begin, _ in every)
    by_lane: dict[str, list[Interval]] = defaultdict(list)
    for tid, intervals in spans.items():
        by_lane[lanes[tid]] += intervals
    shares = {lane: _covered(found) / length if length else 0.0 for lane, found in by_lane.items()}
    known = [lane for lanes in LANES.values() for lane in lanes]
    return ProcessTime(name, length / 1e6, {lane: shares[lane] for lane in [*known, *shares] if lane in shares})


def _covered(intervals: list[Interval]) -> float:
    """Return how much time lies in at least one of the intervals."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def _chunks(times: Mapping[int, Mapping[str, list[float]]]) -> Iterator[ChunkTime]:
    if not times:
        return
    every: dict[str, list[float]] = defaultdict(list)
    for found in times.values():
        for stage, values in found.items():
            every[stage] += values
    for chunk, found in [(None, every), *sorted(times.items())]:
        medians = {stage: statistics.median(values) / 1e3 for stage, values in found.items()}
        yield ChunkTime(chunk, max(map(len, found.values())), medians)
