"""Uplink: gradients on their way up, and what their sender remembers of them."""

from __future__ import annotations

import numpy as np

from ps.compress.codec import Codec
from ps.compress.frame import blocks, buffer
from ps.compress.key import Key
from ps.errors import StateError, UsageError
from ps.spec import Spec
from ps.xp import Array, namespace


class Uplink:
    """Encodes one worker's gradients, chunk by chunk, with the error feedback of the codec's paper.

    The state of a chunk is a dict of arrays on the gradient's side, to be checkpointed with the worker: the codec's
    own, and ``residual``, all that was never sent, and with momentum ``velocity``. The worker keeps it; calls for
    different chunks may run in different threads.

    >>> uplink = Uplink(CODECS.parse("topk:0.5"))
    >>> gradient = np.array([3, -1], np.float32)
    >>> state = uplink.init(gradient)
    >>> frame = uplink.encode(gradient, state, Key(seed=0, clock=0, chunk=0, rank=0))
    >>> state["residual"]
    array([ 0., -1.], dtype=float32)
    """

    def __init__(self, spec: Spec[Codec]) -> None:
        self.spec = spec
        self.codec = spec.build()

    def init(self, like: Array) -> dict[str, Array]:
        """Return the state before the first gradient of a chunk: size, dtype and side of ``like``."""
        slots = [slot for slot in self.codec.slots if slot != "velocity" or self.codec.momentum]
        return {**self.codec.init(like), **{slot: namespace(like).zeros_like(like) for slot in slots}}

    @np.errstate(all="ignore")
    def encode(self, gradient: Array, state: dict[str, Array], key: Key, out: Array | None = None) -> Array:
        """Return the frame of the next gradient, which is only read, and update ``state`` in place.

        ``gradient``: 1-D, float32 or float64, at least one element, finite. The frame is uint8 on its side, the start
        of ``out`` if that is given (``codec.max_bytes`` long). What is sent again must be this frame, not another
        encoding. UsageError, and nothing changed, when gradient, state and ``out`` do not fit each other.
        """
        _check(gradient, state)
        if out is not None:
            buffer(gradient, self.codec.max_bytes(gradient.size, gradient.dtype), out)
        if "residual" not in state:
            return self.codec.encode(gradient, key, state, out)
        residual, velocity = state["residual"], state.get("velocity")
        for lo, hi in blocks(gradient):
            if velocity is None:
                residual[lo:hi] += gradient[lo:hi]
            else:
                velocity[lo:hi] *= self.codec.momentum
                velocity[lo:hi] += gradient[lo:hi]
                residual[lo:hi] += velocity[lo:hi]
        frame = self.codec.encode(residual, key, state, out)
        sent = self.codec.open(frame, gradient.size, gradient.dtype, key, trusted=True)
        sent.take_from(residual)
        if velocity is not None and sent.sparse is not None:
            velocity[sent.sparse[0]] = 0
        return frame

    def give_back(self, frame: Array, state: dict[str, Array], key: Key) -> None:
        """Remember a frame that the server did not use, so that nothing of it is lost; once for each frame.

        ``frame`` and ``key``: as returned by and given to ``encode``. A codec without memory has nowhere to put it:
        StateError.
        """
        residual = state.get("residual")
        if residual is None:
            raise StateError(f"{self.spec.name} remembers nothing, so that a frame cannot be given back")
        self.codec.open(frame, residual.size, residual.dtype, key, trusted=True).add_to(residual)


def _check(gradient: Array, state: dict[str, Array]) -> None:
    if gradient.ndim != 1 or gradient.dtype not in (np.float32, np.float64) or not gradient.size:
        raise UsageError(f"a chunk is float32 or float64 and not empty, not {gradient.dtype}{list(gradient.shape)}")
    for name in ("residual", "velocity"):
        slot = state.get(name)
        if slot is not None and (slot.shape != gradient.shape or slot.dtype != gradient.dtype):
            raise UsageError(
                f"compression state {name!r} is {slot.dtype}{list(slot.shape)}, "
                f"the gradient {gradient.dtype}{list(gradient.shape)}"
            )
