"""Gradients: what a script hands in, checked against the layout and readable chunk by chunk on the host."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.errors import GradientError
from ps.optim import square_sum
from ps.protocol.layout import Chunk, Layout
from ps.xp import HostArray

Piece = tuple[int, int, int]
"""(tensor number, first element, last element + 1) of a part of a tensor that lies in a chunk."""


class Staging:
    """Host memory for gradients that cannot be sent from where they are, and the map of chunks to tensors."""

    def __init__(self, layout: Layout, chunks: tuple[Chunk, ...], buffer: HostArray) -> None:
        self.layout = layout
        self.flat = layout.flat(buffer)
        self.pieces = [self._pieces(chunk) for chunk in chunks]

    def _pieces(self, chunk: Chunk) -> list[Piece]:
        return [
            (number, max(chunk.start, t.start) - t.start, min(chunk.stop, t.stop) - t.start)
            for number, t in enumerate(self.layout.tensors)
            if t.dtype == chunk.dtype and t.start < chunk.stop and t.stop > chunk.start
        ]

    def region(self, chunk: Chunk) -> HostArray:
        """Return the chunk's part of the staging memory, 1-D."""
        return self.flat[chunk.dtype][chunk.start : chunk.stop]


class Gradients:
    """One step's gradients as flat host vectors, one for each tensor, in layout order."""

    def __init__(self, vectors: list[HostArray], staging: Staging) -> None:
        self.vectors = vectors
        self._staging = staging

    def chunk(self, chunk: Chunk) -> HostArray:
        """Return the chunk's gradient, 1-D: where it lies if it is in one piece, else gathered in staging memory."""
        pieces = self._staging.pieces[chunk.index]
        if len(pieces) == 1:
            number, lo, hi = pieces[0]
            return self.vectors[number][lo:hi]
        return self._gather(chunk, pieces)

    def staged(self, chunk: Chunk) -> HostArray:
        """Return a copy of the chunk's gradient in staging memory, which the script does not know."""
        return self._gather(chunk, self._staging.pieces[chunk.index])

    def _gather(self, chunk: Chunk, pieces: list[Piece]) -> HostArray:
        out = self._staging.region(chunk)
        at = 0
        for number, lo, hi in pieces:
            np.copyto(out[at : at + hi - lo], self.vectors[number][lo:hi])
            at += hi - lo
        return out

    def norm_squared(self) -> float:
        """Return the squared L2 norm over all tensors, in float64."""
        return sum(square_sum(vector) for vector in self.vectors)


def match(grads: Mapping[str, Any], staging: Staging) -> Gradients:
    """Return the gradients a script handed in, on the host. Raises GradientError naming the tensor.

    Every tensor of the layout has to be there, with its shape and dtype; arrays may be NumPy, CuPy or DLPack.
    """
    tensors = staging.layout.tensors
    if unknown := [name for name in grads if name not in {t.name for t in tensors}]:
        close = difflib.get_close_matches(str(unknown[0]), [t.name for t in tensors], 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise GradientError(f"gradient for an unknown tensor {unknown[0]!r}{hint}")
    vectors = []
    for tensor in tensors:
        if tensor.name not in grads:
            raise GradientError(f"no gradient for tensor {tensor.name!r}")
        array = xp.asarray(grads[tensor.name])
        if tuple(array.shape) != tensor.shape:
            raise GradientError(f"gradient of {tensor.name!r} has shape {tuple(array.shape)}, expected {tensor.shape}")
        if str(array.dtype) != tensor.dtype:
            raise GradientError(f"gradient of {tensor.name!r} has dtype {array.dtype}, expected {tensor.dtype}")
        if xp.is_host(array):
            vectors.append(np.ascontiguousarray(array).reshape(-1))
        else:
            home = staging.flat[tensor.dtype][tensor.start : tensor.stop]
            xp.copy_to_host(array, home.reshape(tensor.shape))
            vectors.append(home)
    return Gradients(vectors, staging)


def first_bad(gradients: Gradients, layout: Layout) -> str:
    """Return what is wrong with the first tensor that holds NaN or Inf, or nothing."""
    for tensor, vector in zip(layout.tensors, gradients.vectors, strict=True):
        # One pass: a NaN or Inf anywhere makes the sum one too. A finite vector may overflow: then look closely.
        with np.errstate(all="ignore"):
            finite = np.isfinite(np.add.reduce(vector))
        if not finite and not (fine := np.isfinite(vector)).all():
            at = np.unravel_index(int(np.argmin(fine)), tensor.shape) if tensor.shape else ()
            value = vector[int(np.argmin(fine))]
            return f"gradient of {tensor.name!r} is {value} at {tuple(int(i) for i in at)}"
    return ""
