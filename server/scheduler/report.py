"""Report: what the scheduler keeps of what a member says of itself, so that it can be calculated with and shown.

The columns are those that are a member's to fill; nobody else's are. Each is kept where it is of its kind, as far as
it is not too long: a peer may report what it likes, and there may be tens of thousands of peers.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from ps.protocol.fitting import printable

MOST_RANKS = 20
MOST_COURSES = 100
MOST_CALLS = 8
MOST_FIELDS = 20
MOST_WAITS = 10
MOST_COUNTS = 20
MOST_METRICS = 32
MOST_NAME = 100
"""Characters of a metric's name, or of its value if that is a text."""
MOST_TEXT = 300
MOST_NUMBER = 1e18
"""Clocks, counts, bytes and seconds: more is nobody's, and with so many one can calculate."""

_Keep = Callable[[Any], Any]
"""Returns what is kept of a value, None for nothing."""


def kept(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of a report."""
    if not report:  # a client that polls has nothing to say most of the time, and thousands do
        return {}
    found = ((key, keep(report[key])) for key, keep in _COLUMNS.items() if key in report)
    return {key: value for key, value in found if value is not None}


def _number(value: Any) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return value if fits and 0 <= value <= MOST_NUMBER else None


def _ranks(value: Any) -> list[int] | None:
    if not isinstance(value, list | tuple) or not all(_is_rank(rank) for rank in value[:MOST_RANKS]):
        return None
    return list(value[:MOST_RANKS])


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _waits(keep: Callable[[dict[Any, Any]], dict[str, Any] | None]) -> _Keep:
    """Return what keeps a list of waits, if ``keep`` has something of each of them."""

    def keep_all(value: Any) -> list[dict[str, Any]] | None:
        if not isinstance(value, list | tuple):
            return None
        found = [keep(wait) if isinstance(wait, dict) else None for wait in value[:MOST_WAITS]]
        waits = [wait for wait in found if wait is not None]
        return waits if len(waits) == len(found) else None

    return keep_all


def _wait_of_server(value: dict[Any, Any]) -> dict[str, Any] | None:
    clock, seconds, ranks = _number(value.get("clock")), _number(value.get("seconds")), _ranks(value.get("for"))
    if clock is None or seconds is None or ranks is None:
        return None
    where = {key: number for key in ("chunk", "chunks") if (number := _number(value.get(key))) is not None}
    return {"clock": clock, "for": ranks, "seconds": seconds, **where}


def _wait_of_worker(value: dict[Any, Any]) -> dict[str, Any] | None:
    what, whom, seconds = _text(value.get("what")), _text(value.get("for")), _number(value.get("seconds"))
    if what is None or whom is None or seconds is None:
        return None
    return {"what": what, "for": whom, "seconds": seconds}


def _courses(value: Any) -> list[list[int]] | None:
    """Of each course of batches: which it is, how many the worker has used, its clock, whether it has ended."""
    if not isinstance(value, list | tuple):
        return None
    rows = [row for row in value[:MOST_COURSES] if isinstance(row, list | tuple) and len(row) == 4]
    fine = len(rows) == len(value) and all(
        _is_rank(number) and 0 <= number <= MOST_NUMBER for row in rows for number in row
    )
    return [list(row) for row in rows] if fine else None


def _data(value: Any) -> dict[str, dict[str, Any]] | None:
    """Call of ``kv.batches`` -> what its data are known by, as ``ps.data.fingerprint`` has it."""
    if not isinstance(value, dict) or not all(isinstance(about, dict) for about in value.values()):
        return None
    found = {}
    for call, about in itertools.islice(value.items(), MOST_CALLS):
        examples, fields, sample = _number(about.get("examples")), about.get("fields"), _text(about.get("sample"))
        kept: dict[str, Any] = {} if examples is None else {"examples": examples}
        if isinstance(fields, list | tuple) and all(isinstance(text, str) for text in fields):
            kept["fields"] = [_name(text) for text in fields[:MOST_FIELDS]]
        found[_name(str(call))] = {**kept, **({} if sample is None else {"sample": sample})}
    return found


def _counts(value: Any) -> dict[str, float] | None:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        return None
    counts = {_name(key): _number(count) for key, count in itertools.islice(value.items(), MOST_COUNTS)}
    return None if None in counts.values() else {key: count for key, count in counts.items() if count is not None}


def _metrics(value: Any) -> dict[str, Any] | None:
    plain = (int, float, str, bool, type(None))
    if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, plain) for k, v in value.items()):
        return None
    return {
        _name(key): _name(metric) if isinstance(metric, str) else metric
        for key, metric in itertools.islice(value.items(), MOST_METRICS)
    }


def _ranges(value: Any) -> dict[str, list[float | None]] | None:
    """Of each metric that is a number: the least and the greatest of late, and how many were not finite."""
    plain = (int, float, type(None))
    if not isinstance(value, dict):
        return None
    found = {}
    for key, row in itertools.islice(value.items(), MOST_METRICS):
        if not isinstance(key, str) or not isinstance(row, list | tuple) or len(row) != 3:
            return None
        if any(isinstance(number, bool) or not isinstance(number, plain) for number in row):
            return None
        found[_name(key)] = list(row)
    return found


def _name(value: str) -> str:
    return printable(value[:MOST_NAME])


def _text(value: Any) -> str | None:
    return printable(value[:MOST_TEXT]) if isinstance(value, str) else None


_NUMBERS = (
    *("clock", "steps", "samples", "samples_per_s", "max_staleness", "bytes_up", "bytes_down", "wait_s", "waiting_s"),
    *("planned_steps", "measured_clock", "bytes", "attempt", "counted", "staged", "staged_bytes"),
    *("backup_of", "replica_filled", "replica_lag"),
)
_COLUMNS: Mapping[str, _Keep] = {
    **dict.fromkeys(_NUMBERS, _number),
    "waiting_for": _ranks,
    "waiting": _waits(_wait_of_server),
    "waits": _waits(_wait_of_worker),
    "leases": _courses,
    "data": _data,
    "rejected": _counts,
    "metrics": _metrics,
    "ranges": _ranges,
    "measured": _metrics,
    "sent_at": _number,
    "software": _text,
    "failure": _text,
    "first_batch": _text,
    "kernels": _text,
    "replica": _text,
    "terminated": lambda value: True if value is True else None,
}
