"""The Chrome trace-event format: one event as one line of JSON. Pure functions.

Times are microseconds of the host's monotonic clock, the same for all its processes; the header says how far that is
from the time of day, by which other hosts' parts can be moved to it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

FORMAT = 1
HEADER = "paramserver"
"""The name of the metadata event that every process's events begin with."""


def header(pid: int, role: str, host: str, offset: int, token: str) -> str:
    """Return the line that says whose events these are and on which clock.

    ``host`` names the machine since its start, ``offset`` is its time of day less its monotonic clock (ns), ``token``
    is the process's own.
    """
    args = {"format": FORMAT, "role": role, "host": host, "offset_ns": offset, "token": token}
    return metadata(pid, 0, HEADER, args)


def names(pid: int, role: str, rank: int) -> list[str]:
    """Return the lines that name a process and sort it: workers by rank, then servers."""
    title = role if rank < 0 else f"{role} {rank}"
    place = (0 if role == "worker" else 1 << 20) + max(rank, 0)
    return [
        metadata(pid, 0, "process_name", {"name": title}),
        metadata(pid, 0, "process_sort_index", {"sort_index": place}),
    ]


def row(pid: int, tid: int, title: str, place: int) -> list[str]:
    """Return the lines that name a row of a process and sort it."""
    return [
        metadata(pid, tid, "thread_name", {"name": title}),
        metadata(pid, tid, "thread_sort_index", {"sort_index": place}),
    ]


def metadata(pid: int, tid: int, name: str, args: dict[str, Any]) -> str:
    """Return an event that says something about the others."""
    return json.dumps({"name": name, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": args}, separators=(",", ":"))


def span(pid: int, tid: int, title: str, since: int, until: int, about: str) -> str:
    """Return a complete event; ``about`` is what ``details`` returned."""
    took = max(0, until - since) / 1e3
    return (
        f'{{"name":{_quoted(title)},"ph":"X","ts":{since / 1e3:.3f},"dur":{took:.3f},'
        f'"pid":{pid},"tid":{tid},"args":{{{about}}}}}'
    )


def instant(pid: int, tid: int, title: str, at: int, about: str) -> str:
    """Return a mark in a row."""
    return (
        f'{{"name":{_quoted(title)},"ph":"i","s":"t","ts":{at / 1e3:.3f},"pid":{pid},"tid":{tid},"args":{{{about}}}}}'
    )


def count(pid: int, title: str, at: int, value: float) -> str:
    """Return one point of a curve."""
    args = json.dumps({"value": value})
    return f'{{"name":{_quoted(title)},"ph":"C","ts":{at / 1e3:.3f},"pid":{pid},"tid":0,"args":{args}}}'


def flow(pid: int, tid: int, station: str, at: int, way: str) -> str:
    """Return a station of a chunk's way; it belongs to the span around it, not to the next one (``bp``)."""
    return (
        f'{{"name":"chunk","cat":"exchange","ph":"{station}","bp":"e","id":"{way}","ts":{at / 1e3:.3f},'
        f'"pid":{pid},"tid":{tid}}}'
    )


def way(worker: int, clock: int, chunk: int) -> str:
    """Return the id of a worker's chunk at a clock: 64 bits in hexadecimal, as both viewers read it."""
    return hex((worker & 0xFFFF) << 48 | (clock & 0xFFFFFFF) << 20 | chunk & 0xFFFFF)


def details(peer_name: str, values: Sequence[int]) -> str:
    """Return clock, chunk, peer and size as the inside of a JSON object, without those that are negative."""
    clock, chunk, peer, size = values
    parts = []
    if clock >= 0:
        parts.append(f'"clock":{clock}')
    if chunk >= 0:
        parts.append(f'"chunk":{chunk}')
    if peer >= 0:
        parts.append(f'"{peer_name}":{peer}')
    if size >= 0:
        parts.append(f'"bytes":{size}')
    return ",".join(parts)


@lru_cache(maxsize=256)
def _quoted(text: str) -> str:
    return json.dumps(text)
