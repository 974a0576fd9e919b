"""Publisher: how the combination of a round's deltas changes a chunk of the global model, by what the chunk holds."""

from __future__ import annotations

import numpy as np

from ps.config.job import JobConfig
from ps.cores import cores, threads_for
from ps.optim import apply
from ps.optim.rate import LearningRate
from ps.server.shard.chunk import ChunkState
from ps.threads import ThreadTeam
from ps.xp import HostArray


class Publisher:
    """The server optimizer for what is trained; sums for the rest.

    trainable: the optimizer's step against the gradient global - local, which is minus the combined delta (Reddi et
    al., Adaptive federated optimization, ICLR 2021). buffer: the combined delta is added. counter: all clients' counts
    are. control: the combined delta, times the share of the clients that took part (SCAFFOLD).
    """

    def __init__(self, job: JobConfig, threads: int = 0) -> None:
        """``threads`` share out the work on a chunk; 0 takes a share of the host's cores."""
        spec = job.specs.server_optimizer
        self.name = str(spec)
        """The server optimizer with all its numbers."""
        self._optimizer = spec.build()
        self._rate = LearningRate(self._optimizer.lr, job.specs.server_schedule.build())
        self._team = ThreadTeam(threads_for(threads, cores(), job.servers))

    def slots(self, chunk: ChunkState) -> dict[str, HostArray]:
        """Return the optimizer's state for a chunk before its first update."""
        return self._optimizer.init(chunk.weights) if chunk.chunk.kind == "trainable" else {}

    def apply(self, chunk: ChunkState, delta: HostArray, factor: float, share: float) -> None:
        """Take a combined delta into the chunk's weights, in place; it is multiplied with ``factor`` where trained."""
        chunk.own()
        chunk.updates += 1
        if chunk.chunk.kind == "trainable":
            apply(
                self._optimizer,
                chunk.weights,
                delta,
                chunk.slots,
                lr=self._rate(chunk.updates - 1),
                t=chunk.updates,
                scale=-factor,
                team=self._team,
            )
        elif chunk.chunk.kind == "control":
            chunk.weights += np.multiply(delta, share, dtype=delta.dtype)
        else:
            chunk.weights += delta
