"""Compression: what a worker keeps of each chunk to send its gradients, and take its weights, in few bytes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ps import xp
from ps.compress import Downlink, Key, Uplink
from ps.compress.key import DOWN
from ps.config.job import JobConfig
from ps.protocol.layout import Chunk
from ps.xp import Array, HostArray

NOTHING: Mapping[int, Array] = MappingProxyType({})


class Compression:
    """The job's codec and this worker's error feedback. ``state`` is what a checkpoint of the worker must hold."""

    def __init__(self, job: JobConfig, rank: int) -> None:
        spec = job.specs.compress
        self._uplink = Uplink(spec)
        self._downlink = Downlink(spec)
        self._seed = job.seed
        self._rank = rank
        self._sent: dict[int, tuple[Array, Key]] = {}
        self.state: dict[int, dict[str, Array]] = {}
        """Chunk -> what the codec remembers of it, on the gradient's side."""

    def encode(self, gradient: Array, chunk: int, clock: int) -> HostArray:
        """Return the frame of a chunk's gradient at a clock; to be called once for each.

        It is made on the gradient's side: from a device only the frame comes down.
        """
        if chunk not in self.state:
            self.state[chunk] = self._uplink.init(gradient)
        key = Key(self._seed, clock, chunk, self._rank)
        frame = self._uplink.encode(gradient, self.state[chunk], key)
        self._sent[chunk] = frame, key
        return xp.to_host(frame)

    def give_back(self, chunks: set[int], dropped: Mapping[int, Array] = NOTHING) -> None:
        """Remember what was sent last of these chunks: it did not count. ``dropped`` of it is never to count."""
        for chunk in sorted(chunks & self._sent.keys()):
            frame, key = self._sent.pop(chunk)
            if "residual" in self.state[chunk]:
                self._uplink.give_back(frame, self.state[chunk], key)
                if chunk in dropped:
                    self.state[chunk]["residual"] -= dropped[chunk]

    def follow(self, payload: Any, into: HostArray, chunk: Chunk, version: int) -> int:
        """Bring a chunk's weights to a version by the frame that a server sent; return its bytes.

        ``into`` is the flat buffer, uint8. Raises BadMessage when it is no such frame.
        """
        frame = np.frombuffer(payload, np.uint8)
        replica = into[chunk.offset : chunk.offset + chunk.nbytes].view(chunk.dtype)
        self._downlink.follow(frame, replica, Key(self._seed, version, chunk.index, DOWN))
        return frame.size
