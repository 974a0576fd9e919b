"""ShardCompression: how a server reads compressed gradients and says weights in few bytes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.compress import Decoded, Downlink, Key
from ps.config.job import JobConfig
from ps.protocol.layout import Chunk
from ps.protocol.messages import Weights, WeightsDelta
from ps.server.loan import Loan
from ps.server.send import Send
from ps.server.shard.chunk import ChunkState, Waiter
from ps.server.shard.shadow import Shadow
from ps.xp import Array

ALL = 0
"""Under this a chunk has the shadow of the weights as all workers have them."""


class ShardCompression:
    """What a job's ``compress`` means on a server. In lockstep all workers have one shadow, else each its own."""

    def __init__(self, job: JobConfig) -> None:
        self._seed = job.seed
        self._lockstep = job.lockstep
        self._downlink = Downlink(job.specs.compress)

    def read(self, payload: Any, chunk: Chunk, clock: int, rank: int) -> Decoded:
        """Return the gradient that a frame stands for. Raises BadMessage when it is none."""
        frame = np.frombuffer(payload, np.uint8)
        key = Key(self._seed, clock, chunk.index, rank)
        return self._downlink.codec.open(frame, chunk.size, np.dtype(chunk.dtype), key)

    def bring(self, chunk: ChunkState) -> None:
        """Have what all workers have of a chunk, in lockstep, come to its version, as an answer would."""
        shadow = chunk.shadows.get(ALL)
        if shadow is None:
            chunk.shadows[ALL] = Shadow.of(self._downlink, chunk.weights, chunk.version)
        else:
            shadow.follow(self._downlink, chunk.chunk, chunk.weights, chunk.version, self._seed)

    def state(self, chunk: ChunkState) -> dict[str, Array]:
        """Return what the codec keeps of a chunk before its first frame."""
        return self._downlink.init(chunk.weights)

    def answer(self, chunk: ChunkState, waiter: Waiter) -> Send:
        """Return the weights for a worker: what changed since those it has, or all of them."""
        who = ALL if self._lockstep else waiter.member
        shadow = chunk.shadows.get(who)
        frame = None
        if shadow is not None:
            resent = shadow.frame_for(waiter.version)  # the answer was lost, or another had the same
            if resent is None or self._lockstep:
                shadow.follow(self._downlink, chunk.chunk, chunk.weights, chunk.version, self._seed)
            frame = shadow.frame_for(waiter.version)
        if shadow is None or (frame is None and not self._lockstep):
            shadow = chunk.shadows[who] = Shadow.of(self._downlink, chunk.weights, chunk.version)
        index = chunk.chunk.index
        if frame is None:
            made = Weights(waiter.request, index, shadow.version, waiter.staleness, chunk.rates)
            return Send(waiter.origin, made, Loan(chunk.chunk, shadow.weights.copy()))
        delta = WeightsDelta(waiter.request, index, shadow.version, waiter.staleness, chunk.rates)
        return Send(waiter.origin, delta, Loan(chunk.chunk, frame))
