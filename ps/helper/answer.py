"""SumAnswer: what a helper says to servers of one sum of masks. Orders in, messages out; no sockets and no clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ps.errors import BadMessage
from ps.protocol.layout import Chunk
from ps.protocol.messages import HelpOrder, HelpRequest, MaskSum
from ps.secure.frames import MaskedFrames
from ps.secure.helped import SumOfMasks
from ps.secure.masks import apply_masks
from ps.xp import HostArray

RESEND = 3.0
"""Seconds after which what is still wanted is said again."""


class SumAnswer:
    """Tells servers the sums that the scheduler orders and the helper's decisions allow."""

    def __init__(self, sums: SumOfMasks, frames: MaskedFrames, chunks: Sequence[Chunk]) -> None:
        self._sums, self._frames, self._chunks = sums, frames, chunks
        self._offer = sums.offer()
        self._order: HelpOrder | None = None
        self._keys: list[tuple[bytes, int]] = []
        self._said = 0.0
        self._numbers = 0
        self.why = ""
        """Why the sum that was asked for last is not told, if it is not."""
        self.told = 0
        """How many sums were."""

    def ask(self) -> HelpRequest:
        """Return what the scheduler is asked."""
        version, attempt = (self._order.version, self._order.attempt) if self._order else (0, 0)
        return HelpRequest(0, self._offer, version, attempt, self.why)

    def hear(self, order: HelpOrder, now: float) -> Iterator[tuple[int, MaskSum, HostArray]]:
        """Take the scheduler's answer; yield what servers are told: rank, message, words."""
        if not order.boxes:
            return
        known = self._order
        if known is None or (known.version, known.attempt) != (order.version, order.attempt):
            self._order, self.why, self._keys = order, "", []
            try:
                self._keys = self._sums.keys(order.version, order.boxes)
            except BadMessage as error:
                self.why = str(error)
                return
            self.told += 1
        elif self.why or now - self._said < RESEND:
            return
        self._said = now
        for chunk in self._chunks:
            self._numbers += 1
            words = np.zeros(self._frames.words(chunk), self._frames.encoding.dtype)
            apply_masks(words, self._frames.offset(chunk.index), self._keys)
            about = order.version, order.attempt, chunk.index, order.token
            yield chunk.server, MaskSum(self._numbers, *about), words
