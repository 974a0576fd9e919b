"""Passes: how the worker with the first stage tells the others what is next, and how all count that.

A plan says for which crew it is: one that was made before a worker was replaced is nobody's any more. Passes are
numbered by the worker with the first stage; one that is new there is told by the others how far they have come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.pipeline.runner import PLAN, Transfer
from ps.worker.pipeline.peers import CREW, PipelinePeers

STEP, WISH, BARRIER, END = "step", "wish", "barrier", "end"
"""What a plan is for: a step; something else that the worker which plans wants; word that it is in a barrier, where who
has come to its end by then, and only waits to leave, goes too; and that there is no more."""
MEASURE = "outputs"
"""The wish for a batch's outputs. That for a tensor which is to be saved is a tuple."""
FOR, WHAT, FAR, VERSION = "for", "what", "far", "version"
"""Keys of plans: what it is for; what is wanted; told to a new worker with the first stage, how many passes there have
been; and, where steps overlap, how many updates are in the weights that are measured or saved."""


class Passes:
    """The passes of one worker; ``first``: the rank of the worker with the first stage."""

    def __init__(self, lines: PipelinePeers, rank: int, first: int, *, overlaps: bool = False) -> None:
        """``overlaps``: several passes are under way at a time."""
        self._lines, self._rank, self._first, self._overlaps = lines, rank, first, overlaps
        self.number = 0
        """How many passes there have been."""
        self.kept: list[Transfer] = []
        """What came of the present pass before its plan did."""
        self._unheard: set[int] = set()
        """The ranks of those that are still to tell how many passes there have been."""
        self._tell()

    def _tell(self) -> None:
        """Tell a worker with the first stage that is new to this one how many passes there have been."""
        if self._rank != self._first:
            place = self._rank - self._first
            self._lines.send(self._first, 0, Transfer(PLAN, place, 0, {FAR: self.number, "rank": self._rank}))

    def succeed(self) -> None:
        """Go on for another worker: how many passes there have been the others know."""
        if self._rank == self._first:
            self._unheard.update(self._lines.members)

    def begin_again(self) -> None:
        """Another worker is in the place of one that is gone: meet it. Raises PeerLost."""
        new = self._lines.meet()
        self._lines.forget(self.number + 1)
        if self._unheard:
            self._unheard.update(new)
        elif self._first in new:
            self._tell()

    def announce(self, told: Mapping[str, Any]) -> None:
        """Begin a pass, and tell the others of what kind."""
        lines = self._lines
        while True:
            for transfer in lines.take(0):
                self.number = max(self.number, transfer.tree[FAR])
                self._unheard.discard(transfer.tree["rank"])
            if not self._unheard:
                break
            lines.wait(lambda: bool(lines.peek(0)), "word of how far this pipeline is", min(self._unheard))
        self.number += 1
        for rank in lines.members:
            lines.send(rank, self.number, Transfer(PLAN, rank - self._first, 0, {**told, CREW: lines.crew}))

    def next(self, clock: int) -> Any:
        """Wait for the next plan, after so many steps."""
        lines = self._lines
        while (found := lines.plan(self.number)) is None:
            what = f"the next batch, after step {clock}"
            lines.wait(lambda: lines.plan(self.number) is not None, what, self._first)
        self.number = found
        if not self._overlaps:
            lines.forget(found)
        arrived = lines.take(found)
        self.kept = [transfer for transfer in arrived if transfer.kind != PLAN]
        return next(transfer.tree for transfer in arrived if transfer.kind == PLAN)

    @property
    def coming(self) -> Mapping[str, Any] | None:
        """What the next plan says, if it is here already; nothing for the worker with the first stage."""
        if self._rank == self._first or (found := self._lines.plan(self.number)) is None:
            return None
        told: Mapping[str, Any] = next(each.tree for each in self._lines.peek(found) if each.kind == PLAN)
        return told

    # What belongs to the pass

    def send(self, rank: int, transfer: Transfer, clock: int | None = None) -> None:
        """Have something sent; with a ``clock`` it is of the step after that."""
        self._lines.send(rank, self.number, transfer, clock)

    def take(self) -> list[Transfer]:
        """Return what has come, and was not taken yet."""
        return self._lines.take(self.number)

    def wait(self, what: str, rank: int) -> None:
        """Return when something has come. Raises as ``PipelinePeers.wait`` does."""
        self._lines.await_any(self.number, what, rank)
