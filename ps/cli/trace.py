"""psctl trace: several parts of a timeline as one, and a timeline as text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ps.cli.help import HelpfulCommand, HelpfulGroup
from ps.errors import PSError, UsageError
from ps.regular_file import blaming, open_regular, shown


@click.group(
    cls=HelpfulGroup,
    examples="psctl trace show trace.json\npsctl trace merge all.json a.json b.json    from several machines",
)
def trace() -> None:
    """Merge the timelines that --trace leaves, and sum them up."""


@trace.command(cls=HelpfulCommand, examples="psctl trace merge all.json a.json b.json")
@click.argument("out", metavar="OUT")
@click.argument("parts", nargs=-1, required=True, metavar="PARTS...")
def merge(out: str, parts: tuple[str, ...]) -> int:
    """Write one trace, OUT, made of PARTS: files of --trace from several machines, or what a killed run left.

    The clocks of different machines are taken to be right.
    """
    from ps.trace.merge import merge as merge_parts
    from ps.whole import check_writable

    target = check_writable(out, "the trace")
    try:
        merged = merge_parts([_existing(part) for part in parts], target, _warn)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}") from None
    if not merged.processes:
        raise PSError(f"nothing was merged: no part holds a trace of psctl's; {shown(out)} is as it was")
    click.echo(f"{merged.events} events of {merged.processes} processes are in {out}")
    return 0


@trace.command(cls=HelpfulCommand, examples="psctl trace show trace.json")
@click.argument("file", metavar="FILE")
def show(file: str) -> int:
    """Show where each process's time went, and how long the stages of a chunk's exchange take."""
    from ps.trace.part import read_events
    from ps.trace.summary import summarize

    path, found = _existing(file), 0

    def events() -> Iterator[dict[str, Any]]:
        nonlocal found
        for _, some, _ in read_events(path):
            found += len(some)
            yield from some

    with blaming(file, "trace"):
        processes, chunks = summarize(events())
    if not found:
        raise UsageError(f"{file} cannot be read as a trace of psctl's: it has no events")

    from rich.console import Console

    from ps.cli.timings import chunk_table, process_table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    if not processes:
        console.print(f"{file} has no spans: its processes ended before they did anything", markup=False)
        return 0
    console.print(process_table(processes))
    console.print("Shares of a process's time; what goes on at once counts twice.\n", markup=False)
    if chunks:
        console.print(chunk_table(chunks))
    return 0


def _existing(name: str) -> Path:
    with blaming(name):
        open_regular(name).close()
    return Path(name)


def _warn(text: str) -> None:
    print(f"psctl: {text}", file=sys.stderr)
