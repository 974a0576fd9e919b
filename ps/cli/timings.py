"""The readable form of a trace's summary."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ps.launch.table import plain_table
from ps.trace.summary import STAGES, WAY, ChunkTime, ProcessTime, stage_name

MOST_CHUNKS = 20
"""Chunks that are shown, at most: those that take longest."""


def process_table(processes: Sequence[ProcessTime]) -> Table:
    """Return a row for each process: its seconds, and the shares that its lanes were busy."""
    lanes = list(dict.fromkeys(lane for process in processes for lane in process.shares))
    table = plain_table()
    table.add_column("process", overflow="fold")
    for column in ("seconds", *lanes):
        table.add_column(column, justify="right")
    for process in processes:
        shares = (f"{process.shares[lane]:.0%}" if lane in process.shares else "" for lane in lanes)
        table.add_row(process.name, f"{process.seconds:.2f}", *shares)
    return table


def chunk_table(chunks: Sequence[ChunkTime]) -> Table:
    """Return a row for all chunks, then one for each of the slowest."""
    total, *each = chunks
    stages = [stage for stage in (WAY, *(stage_name(*stage) for stage in STAGES)) if stage in total.medians]
    slowest = sorted(each, key=lambda chunk: -chunk.medians.get(WAY, sum(chunk.medians.values())))[:MOST_CHUNKS]
    table = plain_table("median milliseconds")
    for column in ("chunk", "times", *stages):
        table.add_column(column, justify="right")
    for chunk in (total, *slowest):
        medians = (f"{chunk.medians[stage]:.3f}" if stage in chunk.medians else "" for stage in stages)
        table.add_row("all" if chunk.chunk is None else str(chunk.chunk), str(chunk.count), *medians)
    return table
