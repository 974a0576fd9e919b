"""Members: what the scheduler knows about the workers of a run, which is not what their processes look like. Pure."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any

from ps.dataclass import dataclass

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Members:
    """``dead``: ranks of our own processes that were given up; ``joined``: of those that the scheduler has seen;
    ``others``: live workers that somebody else started; ``last``: a scheduler that is gone has seen no more of ours;
    ``lacking``: how many workers a job has too few to begin, also once all of ours have come that run."""

    dead: frozenset[int] = frozenset()
    others: tuple[str, ...] = ()
    joined: frozenset[int] = frozenset()
    last: bool = False
    lacking: int = 0


def read_members(rows: Iterable[Row], ours: Mapping[int, int], host: str) -> Members:
    """Return what rows of a status say; ``ours`` has the rank of each process on ``host`` that we have started."""
    states: dict[int, set[str]] = {}
    others = []
    for row in rows:
        if row.get("host") == host and row.get("pid") in ours:
            states.setdefault(row["pid"], set()).add(str(row.get("state")))
        elif row.get("state") == "live":
            others.append(f"worker {row.get('rank')} ({row.get('host')}, pid {row.get('pid')})")
    dead = frozenset(ours[pid] for pid, found in states.items() if found == {"dead"})
    return Members(dead, tuple(others), frozenset(ours[pid] for pid in states))


def lacking(status: Mapping[str, Any], running: Collection[int], host: str) -> int:
    """Return how many workers a job lacks that has not begun, once those on ``host`` with these ids have come too."""
    if status.get("phase") != "waiting":
        return 0
    seen = {row.get("pid") for row in status.get("workers", ()) if row.get("host") == host}
    live, wanted = status["totals"]["workers"].get("live", 0), status["job"].get("workers", 1)
    return max(0, int(wanted) - int(live) - len(set(running) - seen))


def read_last(status: Mapping[str, Any], ours: Mapping[int, int], former: Container[int], host: str) -> Members:
    """Return what the status says with which a scheduler has ended: who has said no goodbye by then never will.

    Of very many workers a status shows some: of the others it is not known whether they had come.
    """
    rows, totals = status.get("workers", ()), dict((status.get("totals") or {}).get("workers") or {})
    shown = totals.pop("shown", None)
    found = read_members(without(rows, former, host), ours, host)
    return Members(found.dead, (), found.joined, last=shown is not None and shown == sum(totals.values()))


def without(rows: Iterable[Row], former: Container[int], host: str) -> list[Row]:
    """Return the rows but those of processes on ``host`` in the place of which others were started."""
    return [row for row in rows if not (row.get("host") == host and row.get("pid") in former)]


def joined(rows: Iterable[Row], ours: Mapping[int, int], host: str) -> list[Row]:
    """Return the rows of the workers that somebody else has started, live or not."""
    return [row for row in rows if not (row.get("host") == host and row.get("pid") in ours)]
