"""Report: tables as text, Markdown and JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peers.memory import PASSES, TWO

from race.targets import Target
from race.turns import Result, Table

HEAD = ("", "ms a step", "lowest", "highest", "GB/s", "of in place", "of memory", "x best peer")


def best_peer(table: Table) -> float:
    """Return the seconds of the fastest peer that does the same work; NaN when there is none."""
    times = [result.median for result in table.results if result.case.kind == "peer"]
    return min((value for value in times if not math.isnan(value)), default=math.nan)


def figures(table: Table, result: Result) -> dict[str, float]:
    """Return a case's figures: ms, GB/s of model, speed over the update in place, the bytes per second that it has to
    move over those of the update in place on two threads, and speed over the best peer."""
    seconds = result.median
    return {
        "ms": seconds * 1e3,
        "lowest": min(result.seconds, default=math.nan) * 1e3,
        "highest": max(result.seconds, default=math.nan) * 1e3,
        "rate": table.setup.nbytes / 1e9 / seconds,
        "of in place": table.median("in place") / seconds,
        "of memory": (result.case.passes or math.nan) / seconds * table.median(TWO) / PASSES,
        "x best peer": best_peer(table) / seconds,
    }


def text(table: Table) -> Iterator[str]:
    """Yield a table's lines for a terminal."""
    yield table.title
    yield f"  {HEAD[0]:26}" + "".join(f"{head:>12}" for head in HEAD[1:])
    for result in table.results:
        if result.error:
            yield f"  {result.case.name:26}  failed: {result.error}"
            continue
        row = figures(table, result)
        digits = (3, 3, 3, 2, 3, 2, 2)
        cells = (number(value, places) for value, places in zip(row.values(), digits, strict=True))
        yield f"  {result.case.name:26}" + "".join(f"{cell:>12}" for cell in cells)


def settings(tables: Sequence[Table]) -> Iterator[str]:
    """Yield how each case was set and what it does not do; once for cases that were set alike everywhere."""
    told: dict[str, list[str]] = {}
    for table in tables:
        for result in table.results:
            case = result.case
            words = case.settings + (f". Not the same: {case.lacks}" if case.lacks else "")
            if words not in told.setdefault(case.name, []):
                told[case.name].append(words)
    for name, ways in told.items():
        for words in ways[:1]:
            yield f"  {name:26}{words}"
        if len(ways) > 1:
            yield f"  {'':26}(in sweeps with the chunk size above the table)"


def verdicts(rows: Sequence[Target]) -> Iterator[str]:
    """Yield a line for each target."""
    for row in rows:
        yield f"  {row.what:50}{row.case:24}{number(row.ratio, 2):>8}  {row.bound:14}{row.verdict}"


def markdown(
    host: Mapping[str, Any],
    tables: Sequence[Table],
    adam: Mapping[str, float],
    models: Mapping[str, Mapping[str, float]],
    rows: Sequence[Target],
) -> Iterator[str]:
    """Yield the main tables and the targets for a README; sweeps have one table each, of ms a step."""
    yield ", ".join(f"{key} {value}" for key, value in host.items())
    for table in tables:
        if table.x:
            continue
        yield from (
            "",
            f"**{table.title}**",
            "",
            "| | ms a step | GB/s of model | of in place | of memory | times the best peer |",
        )
        yield "| --- | --- | --- | --- | --- | --- |"
        for result in table.results:
            if result.error:
                yield f"| {result.case.name} | failed: {result.error.replace('|', '/')} | | | | |"
                continue
            row = figures(table, result)
            cells = [
                number(row[key], places)
                for key, places in (("ms", 3), ("rate", 2), ("of in place", 3), ("of memory", 2), ("x best peer", 2))
            ]
            yield f"| {result.case.name} | {' | '.join(cells)} |"
    for part in dict.fromkeys(table.part for table in tables if table.x):
        yield from sweep(part, [table for table in tables if table.part == part])
    if adam:
        yield from ("", "**Adam, one update of 10 M parameters**", "", "| | ms |", "| --- | --- |")
        yield from (f"| {name} | {number(seconds * 1e3, 1)} |" for name, seconds in adam.items())
    if models:
        cases = list(dict.fromkeys(case for taken in models.values() for case in taken))
        yield from ("", "**A training step in one process: ms**", "", f"| | {' | '.join(cases)} |")
        yield "| --- |" + " --- |" * len(cases)
        for name, taken in models.items():
            yield f"| {name} | {' | '.join(number(taken[case] * 1e3, 2) for case in cases)} |"
    yield from ("", "**Targets**", "", "| what | case | measured | target | |", "| --- | --- | --- | --- | --- |")
    for target in rows:
        yield f"| {target.what} | {target.case} | {number(target.ratio, 2)} | {target.bound} | {target.verdict} |"


def sweep(part: str, tables: Sequence[Table]) -> Iterator[str]:
    """Yield one table of ms a step for the setups of a sweep."""
    names = list(dict.fromkeys(result.case.name for table in tables for result in table.results))
    yield from ("", f"**{tables[0].title.partition(':')[0].capitalize()}: ms a step**", "")
    yield "| | " + " | ".join(table.title.partition(": ")[2] for table in tables) + " |"
    yield "| --- |" + " --- |" * len(tables)
    for name in names:
        yield f"| {name} | " + " | ".join(number(table.median(name) * 1e3, 2) for table in tables) + " |"


def as_json(
    host: Mapping[str, Any],
    tables: Sequence[Table],
    adam: Mapping[str, float],
    models: Mapping[str, Mapping[str, float]],
    rows: Sequence[Target],
) -> dict[str, Any]:
    """Return everything that was measured, with settings, as plain values."""
    return {
        "machine": dict(host),
        "tables": [
            {
                "part": table.part,
                "title": table.title,
                "setup": dataclasses.asdict(table.setup),
                "absent": dict(table.absent),
                "cases": [
                    {
                        "name": result.case.name,
                        "kind": result.case.kind,
                        "settings": result.case.settings,
                        "lacks": result.case.lacks,
                        "options": dict(result.case.options),
                        "steps_per_turn": result.steps,
                        "seconds_per_step": result.seconds,
                        "median": None if math.isnan(result.median) else result.median,
                        "error": result.error,
                    }
                    for result in table.results
                ],
            }
            for table in tables
        ],
        "adam": dict(adam),
        "models": {name: dict(taken) for name, taken in models.items()},
        "targets": [
            {
                "what": row.what,
                "case": row.case,
                "ratio": None if math.isnan(row.ratio) else row.ratio,
                "bound": row.bound,
                "verdict": row.verdict,
            }
            for row in rows
        ],
    }


def number(value: float, places: int) -> str:
    """Return a number, or a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.{places}f}"
