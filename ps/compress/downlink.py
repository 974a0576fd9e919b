"""Downlink: weights on their way down, as what changed since the last frame."""

from __future__ import annotations

import numpy as np

from ps.compress.codec import Codec
from ps.compress.frame import blocks
from ps.compress.key import Key
from ps.errors import UsageError
from ps.optim.limit import within_limit
from ps.spec import Spec
from ps.xp import Array, HostArray


class Downlink:
    """Encodes how a chunk's weights differ from what the workers have, and follows these frames.

    The server keeps a ``shadow`` of each chunk: the weights as every worker has them. ``encode`` sends weights -
    shadow and adds to the shadow what was sent; ``follow`` adds the same to a worker's replica. Shadow and replica
    are the same bits after every frame, provided that they were before the first (the chunk went over uncompressed),
    and that each worker follows every frame once, in order. Whoever joins or misses one needs the shadow itself.
    So one frame serves all workers, whatever their clocks, and is made once for each version of the chunk.

    What a frame does not say stays in weights - shadow and is encoded again with the next: error feedback without a
    memory of its own. Tang et al., DoubleSqueeze: parallel stochastic gradient descent with double-pass
    error-compensated compression, ICML 2019, with the weights' difference for the update. Top-k's momentum has no
    part in it.
    """

    def __init__(self, spec: Spec[Codec]) -> None:
        self.spec = spec
        self.codec = spec.build()

    def init(self, weights: HostArray) -> dict[str, Array]:
        """Return a chunk's state before its first frame; the shadow is a copy of the weights and the caller's."""
        return self.codec.init(weights)

    @np.errstate(all="ignore")
    def encode(
        self, weights: HostArray, shadow: HostArray, state: dict[str, Array], key: Key, out: HostArray | None = None
    ) -> HostArray | None:
        """Return the frame that moves replicas towards ``weights``, and move ``shadow`` with them, in place.

        None, and nothing is moved, when the weights have diverged to what no frame can say: they go over whole then.
        ``weights`` and ``shadow``: 1-D, of one size and dtype, in host memory. ``key``: the seed, the chunk's version
        as the clock, the chunk, rank ``DOWN``; ``follow`` needs the same. ``out`` as in ``Codec.encode``. UsageError
        when weights and shadow do not fit each other.
        """
        if weights.shape != shadow.shape or weights.dtype != shadow.dtype:
            raise UsageError(
                f"the shadow is {shadow.dtype}{list(shadow.shape)}, the weights {weights.dtype}{list(weights.shape)}"
            )
        change = np.empty_like(weights)
        for lo, hi in blocks(weights):
            np.subtract(weights[lo:hi], shadow[lo:hi], out=change[lo:hi])
            if not within_limit(change[lo:hi]):
                return None
        frame: HostArray = self.codec.encode(change, key, state, out)
        self.codec.open(frame, weights.size, weights.dtype, key, trusted=True).add_to(shadow)
        return frame

    def follow(self, frame: HostArray, replica: HostArray, key: Key) -> None:
        """Add a received frame to ``replica``, in place; BadMessage, and nothing changed, when it is not one."""
        self.codec.open(frame, replica.size, replica.dtype, key).add_to(replica)
