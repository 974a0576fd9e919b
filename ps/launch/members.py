"""Members: what the scheduler knows about the workers of a run, which is not what their processes look like. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Members:
    """``dead``: ranks of our own processes that were given up; ``others``: live workers that somebody else started."""

    dead: frozenset[int] = frozenset()
    others: tuple[str, ...] = ()


def read_members(rows: Iterable[Row], ours: Mapping[int, int], host: str) -> Members:
    """Return what rows of a status say; ``ours`` has the rank of each process on ``host`` that we have started."""
    states: dict[int, set[str]] = {}
    others = []
    for row in rows:
        if row.get("host") == host and row.get("pid") in ours:
            states.setdefault(row["pid"], set()).add(str(row.get("state")))
        elif row.get("state") == "live":
            others.append(f"worker {row.get('rank')} ({row.get('host')}, pid {row.get('pid')})")
    return Members(frozenset(ours[pid] for pid, found in states.items() if found == {"dead"}), tuple(others))


def joined(rows: Iterable[Row], ours: Mapping[int, int], host: str) -> list[Row]:
    """Return the rows of the workers that somebody else has started, live or not."""
    return [row for row in rows if not (row.get("host") == host and row.get("pid") in ours)]
