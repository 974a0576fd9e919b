"""Seeding: whose first values of a model count, and their way to the servers."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np

from ps.config.cut import chunk_bytes_of
from ps.config.job import JobConfig
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Init, InitChunk, InitDone, InitGrant, InitMaster, InitRequest, Ok
from ps.worker.conversation import Call, Calls, Conversation, Question
from ps.xp import HostArray

AT_ONCE = 2
"""Chunks for each server that are in memory at a time, of first values that are nowhere together."""
_NONE: Mapping[str, HostArray] = types.MappingProxyType({})


def claim(layout: Layout) -> Conversation[bool]:
    """Return whether this worker's first values count. LayoutMismatch is raised if the job's model is another."""
    packed = layout.pack()
    grant: InitGrant = yield Question(
        lambda request, member: InitRequest(request, member, packed), InitGrant, "the first worker's init"
    )
    return grant.seed


def seed(
    member: int,
    job: JobConfig,
    layout: Layout,
    chunks: Iterable[Chunk],
    values: HostArray,
    masters: Mapping[str, HostArray] = _NONE,
) -> Conversation[None]:
    """Send a flat buffer's values to the servers of its chunks, and tell the scheduler that all have them.

    ``masters``: float32 vectors for sections in half precision, whose values are these to the nearest; without them
    the servers make masters of the values. It refuses to be told when a server was lost that had some of the values.
    """
    yield _room(member, job, layout)
    calls, chunks = [], tuple(chunks)
    for chunk in chunks:
        lo, hi = chunk.region
        make = partial(InitChunk, member=member, chunk=chunk.index)
        calls.append(Call(chunk.server, make, values[lo:hi], chunk.region))
    yield Calls("the first values to be stored", calls)
    for part in (0, 1) if masters else ():
        halves = [_of_master(member, chunk, part, masters) for chunk in chunks if chunk.section in masters]
        yield Calls("the masters of the first values to be stored", halves)
    yield Question(InitDone, Ok, "the scheduler to note the first values")


def seed_piecewise(
    member: int, job: JobConfig, layout: Layout, chunks: Iterable[Chunk], first: Callable[[Chunk], HostArray]
) -> Conversation[None]:
    """Do so with values that are nowhere together: ``first`` returns those of a chunk when it is their turn."""
    yield _room(member, job, layout)
    rest = iter(chunks)
    while some := list(itertools.islice(rest, AT_ONCE * job.servers)):
        calls = [Call(c.server, partial(InitChunk, member=member, chunk=c.index), first(c), c.region) for c in some]
        yield Calls("some of the first values to be stored", calls)
    yield Question(InitDone, Ok, "the scheduler to note the first values")


def _room(member: int, job: JobConfig, layout: Layout) -> Calls:
    """Return what has each server make room for its part of a model."""
    nbytes = chunk_bytes_of(job, layout.nbytes)
    announce = partial(Init, member=member, servers=job.servers, chunk_size=nbytes, layout=layout.pack())
    return Calls("room for the model", [Call(server, announce) for server in range(job.servers)])


def _of_master(member: int, chunk: Chunk, part: int, masters: Mapping[str, HostArray]) -> Call:
    """Return what sends half of a master's bytes, as many as its chunk has."""
    bits = masters[chunk.section][chunk.start : chunk.stop].view(np.uint8)
    half = bits[part * chunk.nbytes : (part + 1) * chunk.nbytes].view(np.dtype(chunk.dtype))
    return Call(chunk.server, partial(InitMaster, member=member, chunk=chunk.index, part=part), half, chunk.region)
