"""Seeding: the first values of a model on their way to the servers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from ps.config.job import JobConfig
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Init, InitChunk, InitDone, Ok
from ps.worker.conversation import Call, Calls, Conversation, Question
from ps.xp import HostArray


def seed(member: int, job: JobConfig, layout: Layout, chunks: Iterable[Chunk], values: HostArray) -> Conversation[None]:
    """Send a flat buffer's values to the servers of its chunks, and tell the scheduler that all have them.

    It refuses that when a server was lost that had some of the values.
    """
    announce = partial(Init, member=member, servers=job.servers, chunk_size=job.chunk_bytes, layout=layout.pack())
    yield Calls("room for the model", [Call(server, announce) for server in range(job.servers)])
    calls = []
    for chunk in chunks:
        lo, hi = chunk.region
        make = partial(InitChunk, member=member, chunk=chunk.index)
        calls.append(Call(chunk.server, make, values[lo:hi], chunk.region))
    yield Calls("the first values to be stored", calls)
    yield Question(InitDone, Ok, "the scheduler to note the first values")
