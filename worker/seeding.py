"""Seeding: the first values of a model on their way to the servers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from ps.config.job import JobConfig
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Init, InitChunk
from ps.worker.batch import Batch
from ps.worker.exchange import Exchange
from ps.xp import HostArray


def seed(
    exchange: Exchange, member: int, job: JobConfig, layout: Layout, chunks: Iterable[Chunk], values: HostArray
) -> None:
    """Send a flat buffer's values to the servers of its chunks, and wait until all have them."""
    announce = partial(Init, member=member, servers=job.servers, chunk_size=job.chunk_bytes, layout=layout.pack())
    exchange.ask_all(announce, "room for the model")
    batch = Batch("the first values to be stored")
    for chunk in chunks:
        lo, hi = chunk.region
        make = partial(InitChunk, member=member, chunk=chunk.index)
        exchange.submit(batch, chunk.server, make, values[lo:hi], chunk.region)
    exchange.wait(batch)
