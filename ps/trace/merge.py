"""Merge: several processes' parts as one file, on one clock. The parts stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import IO, Any

from ps.dataclass import dataclass
from ps.regular_file import reason, shown
from ps.trace.events import FORMAT, HEADER
from ps.trace.part import is_whole, read_events
from ps.whole import draft


@dataclass(frozen=True, slots=True)
class Merged:
    """What went into a file."""

    processes: int
    events: int
    stopped: bool = False
    """Whether it was given up half way; then there is no file."""


@dataclass(slots=True)
class _Process:
    pid: int
    shift: int
    """Nanoseconds to add to its times."""


@dataclass(slots=True)
class _Clocks:
    """The hosts' clocks, all seen from the first's."""

    hosts: dict[str, int] = field(default_factory=dict)
    """Each host's time of day less its monotonic clock, as its first process had it (ns)."""

    def shift(self, host: str, offset: int) -> int:
        """Return what to add to a host's moments. Processes of one host share a clock, whatever they say."""
        return self.hosts.setdefault(host, offset) - next(iter(self.hosts.values()))


def merge(
    parts: Sequence[Path], out: Path, warn: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> Merged:
    """Write one valid trace made of the parts, in the order of their processes; parts may be merged files themselves.

    Parts that cannot be read, or hold no events of ours, are skipped, and lines that hold no event passed over; both
    are told to ``warn``. ``stop`` is asked now and then. ``out`` appears whole or not at all; it stays as it is when no
    part holds a process. Raises OSError when it cannot be written.
    """
    try:
        with draft(out) as file:
            merged = _write(_sorted(parts, warn), file, warn, stop)
            if merged.stopped or not merged.processes:
                raise _Nothing(merged)
    except _Nothing as nothing:
        return nothing.merged
    return merged


class _Nothing(Exception):
    """There is nothing to put in the place of what is there."""

    def __init__(self, merged: Merged) -> None:
        self.merged = merged


def _sorted(parts: Sequence[Path], warn: Callable[[str], None]) -> list[Path]:
    """Return the parts that are ours: workers before servers, by rank as their names have it, as numbers."""
    found = []
    for path in parts:
        try:
            _, events, _ = next(iter(read_events(path)))
        except (OSError, ValueError) as error:
            warn(f"{shown(path)} is left out: {reason(error)}")
            continue
        if not any(map(_is_header, events)):
            warn(f"{shown(path)} is left out: it is no trace of psctl's")
            continue
        places = (e["args"].get("sort_index") for e in events if _is_metadata(e, "process_sort_index"))
        found.append((next((place for place in places if isinstance(place, int)), 0), path))
    return [path for _, path in sorted(found)]


def _write(parts: Sequence[Path], file: IO[bytes], warn: Callable[[str], None], stop: Callable[[], bool]) -> Merged:
    clocks, pids = _Clocks(), set[int]()
    count, first = 0, True
    file.write(b"[\n")
    for path in parts:
        processes: dict[int, _Process] = {}
        unreadable = 0
        for lines, events, bad in read_events(path):
            if stop():
                return Merged(len(pids), count, stopped=True)
            unreadable += bad
            kept = []
            for line, event in zip(lines, events, strict=True):
                if _is_header(event):
                    processes[event["pid"]] = _enter(event, clocks, pids)
                process = processes.get(event["pid"])
                if process is None:
                    unreadable += 1
                    continue
                try:
                    kept.append(line if _fits(process, event) else _moved(process, event, clocks))
                    count += event["ph"] != "M"
                except ValueError:  # a number in it that is too large for JSON
                    unreadable += 1
            if kept:
                file.write((b"" if first else b",\n") + b",\n".join(kept))
                first = False
        if unreadable:
            warn(
                f"{shown(path)}: passed over {unreadable} line{'s' if unreadable > 1 else ''} without an event of ours"
            )
    file.write(b"\n]\n")
    return Merged(len(pids), count)


def _enter(header: dict[str, Any], clocks: _Clocks, pids: set[int]) -> _Process:
    args = header["args"]
    pid = header["pid"]
    while pid in pids:  # another host's, or another container's
        pid += 1 << 22
    pids.add(pid)
    return _Process(pid, clocks.shift(args["host"], args["offset_ns"]))


def _fits(process: _Process, event: dict[str, Any]) -> bool:
    return not process.shift and process.pid == event["pid"]


def _moved(process: _Process, event: dict[str, Any], clocks: _Clocks) -> bytes:
    moved = {**event, "pid": process.pid}
    if event["ph"] != "M":
        moved["ts"] = round(event["ts"] + process.shift / 1e3, 3)
    elif _is_header(event):
        host, offset = next(iter(clocks.hosts.items()))
        moved["args"] = {**event["args"], "host": host, "offset_ns": offset}
    return json.dumps(moved, separators=(",", ":"), allow_nan=False).encode()


def _is_metadata(event: dict[str, Any], name: str) -> bool:
    return event["ph"] == "M" and event.get("name") == name and isinstance(event.get("args"), dict)


def _is_header(event: dict[str, Any]) -> bool:
    if not _is_metadata(event, HEADER):
        return False
    args = event["args"]
    return args.get("format") == FORMAT and isinstance(args.get("host"), str) and is_whole(args.get("offset_ns"))
