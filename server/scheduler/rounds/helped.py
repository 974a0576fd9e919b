"""HelpedRound: what clients leave for a helper before they mask, and what it is asked for once a sum is decided.

In the place of ``MaskingRound``. Seeds, sealed for the helper, are kept until their task is over; they are of no use to
who keeps them, and outlive the process. Nothing more is asked of a client whose delta is in a sum.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ps.protocol.messages import Cohort, HelpOrder, HelpRequest, KeyOffer, KeyShares, Message, ShareInbox, Submitted
from ps.protocol.messages.words import Ruling
from ps.secure.channel import from_text, to_text
from ps.secure.helped import MOST_VERSIONS
from ps.secure.identity import identity_in
from ps.secure.sums import SumHistory
from ps.secure.weights import digest_in, of_most, version_in
from ps.server.scheduler.rounds.masking import PATIENCE, ClientWord
from ps.server.scheduler.rounds.task import Task
from ps.server.send import ASKER, Send

log = logging.getLogger("ps.scheduler")

SOON = 2.0
"""Seconds after which a helper that is there asks again, at most."""

SealedSeed = tuple[int, int, str]
"""Round of the task, rank, and the box."""


class HelpedRound:
    """The helper's key, the sealed seeds, and which of them are in the sum that is wanted."""

    asks = False
    """Clients are told at once that their contribution counts."""

    fixed = False
    """Whether it is too late for others to take part: it never is before the collection ends."""

    def __init__(self, patience: float | None, most: int, *, steady: bool = True) -> None:
        """``patience``: seconds for which a sum of masks is waited for, at most, if that is set. ``most``: clients
        for which there is room in a sum. ``steady``: all in a sum begin with the weights of its round."""
        self._most, self._steady = most, steady
        self.failure = ""
        self.until = math.inf
        self.known = False
        """Whether it is decided what is in the sum."""
        self._expected = -math.inf
        """Until when a helper is counted on to ask again."""
        self._patience = min(PATIENCE, patience or PATIENCE)
        self._round = self._attempt = 0
        self.offer = ""
        """The helper's key, as it said last."""
        self._boxes: dict[int, SealedSeed] = {}
        self._sums = SumHistory()
        """The sums that this helper may have told."""
        self._begun: dict[int, bytes] = {}
        """By version, the digest of the weights that clients in these began with."""
        self._votes: dict[int, dict[int, bytes]] = {}
        """By version and rank, the digest that clients have signed."""
        self._asking: dict[int, tuple[int, int]] = {}
        self._wanted: tuple[int, ...] = ()

    # From attempt to attempt

    def begin(self, round: int, attempt: int, now: float) -> None:
        """An attempt at a round begins; seeds for tasks of the one before may count in it."""
        self._round, self._attempt = round, attempt
        self._end()

    def end(self, ruling: Ruling) -> Iterator[Send]:
        """The attempt is over."""
        self._end()
        yield from ()

    def _end(self) -> None:
        self.failure, self.until, self.known, self._wanted = "", math.inf, False, ()

    @property
    def phase(self) -> str:
        """What is waited for."""
        return "helping" if self.known else "masked"

    @property
    def told(self) -> bool:
        """Whether something may have been told of a sum, which all servers have on disk."""
        return self.known

    def shown(self, phase: str) -> str:
        """Return the phase of a round, for people."""
        return "unmask" if self.known and phase == "close" else "agree" if self._asking and not self.offer else phase

    def admits(self, task: int) -> bool:
        """Whether a task's contribution can be in a sum: the helper can be told its seed."""
        return task in self._boxes and self._digest(task) == self._right(task)

    def _version(self, task: int) -> int:
        """Return of which version a task's client is to have the weights that others have, too."""
        return version_in(self._digest(task)) if not self._steady else self._boxes[task][0]

    def _digest(self, task: int) -> bytes:
        return digest_in(self._boxes[task][2])

    def _right(self, task: int) -> bytes:
        """Return the digest of what clients of a task's version begin with: in sums before, or by most of them."""
        version = self._version(task)
        return self._begun.get(version) or of_most(self._votes[version])

    def _vote(self, task: int) -> None:
        _, rank, _ = self._boxes[task]
        self._votes.setdefault(self._version(task), {})[rank] = self._digest(task)

    def goal(self, goal: int, survivors: Collection[int]) -> int:
        """Return how many contributions close a collection that would close with ``goal``: these, or one more."""
        counted = len(survivors)
        return goal if not goal <= counted < self._most or not self.refusal(survivors) else counted + 1

    def refusal(self, survivors: Collection[int]) -> str:
        """Return why these are not to be summed up, or nothing: the helper would refuse to."""
        if any(not self.admits(task) for task in survivors):
            return "clients begin with different weights: a server gives out different ones, or one of them lies"
        return self._sums.refusal(self._round, self._identities(survivors))

    def _identities(self, tasks: Iterable[int]) -> set[bytes]:
        return {identity_in(self._boxes[task][2]) for task in tasks if task in self._boxes}

    # What clients say

    def hear(self, message: ClientWord, rank: int, round: int) -> Message | None:
        """Take what a client says of a task that is its own, begun in ``round``; return the answer."""
        match message:
            case KeyOffer():
                if not self.offer:
                    self._asking[message.task] = message.member, message.request
                    return None
                return Cohort(message.request, self._attempt, ((0, 0, self.offer),))
            case KeyShares() if message.shares:
                self._boxes.setdefault(message.task, (round, rank, message.shares[0][1]))
                self._vote(message.task)
                if not self.admits(message.task):
                    log.warning(
                        "client %d begins round %d with other weights than most, and is left out of the sum: a server "
                        "gives out different ones, or it lies",
                        rank,
                        round,
                    )
                return ShareInbox(message.request, ())
        return Submitted(message.request, message.task, "malformed")

    def unmask(self, task: int, request: int) -> None:
        """Return nothing: no client is asked who is in the sum."""

    def lose(self, tasks: Iterable[int]) -> None:
        """Whoever is gone is not needed."""

    # What the helper says

    def close(self, survivors: Collection[int], now: float) -> None:
        """The masks of these are to be taken off."""
        self._wanted, self.known = tuple(sorted(survivors)), True
        self._sums.note(self._round, self._identities(survivors))
        self._begun |= {self._version(task): self._digest(task) for task in survivors if task in self._boxes}
        self._begun = dict(sorted(self._begun.items())[-MOST_VERSIONS:])
        self.until = now + self._patience

    def ask(self, survivors: Iterable[Task]) -> Iterator[Send]:
        """Tell nobody who is in the sum."""
        yield from ()

    def help(self, message: HelpRequest, token: int, now: float, *, over: bool) -> list[Send]:
        """A helper offers its key, and asks for work; return that first, and what clients hear who wait for the key.

        ``over``: there is no more.
        """
        self._expected = -math.inf if over else now + SOON
        if self.offer != message.offer:
            self.offer = message.offer  # of another one, or another life of it: it opens no box that is here
            self._boxes, self._votes, self._begun, self._sums = {}, {}, {}, SumHistory()
        waiting, self._asking = self._asking, {}
        cohort = ((0, 0, self.offer),)
        sends = [Send(member, Cohort(request, self._attempt, cohort)) for member, request in waiting.values()]
        if message.why and (message.version, message.attempt) == (self._round, self._attempt) and self.known:
            self.failure = f"the helper does not tell this sum of masks: {message.why}"
        if not self.known or self.failure:
            return [Send(ASKER, HelpOrder(message.request, self._round, self._attempt, 0, (), over)), *sends]
        boxes = tuple((task, *self._boxes[task]) for task in self._wanted if task in self._boxes)
        if len(boxes) < len(self._wanted):
            self.failure = "the helper is another process than the one for which seeds were sealed"
            boxes = ()
        return [Send(ASKER, HelpOrder(message.request, self._round, self._attempt, token, boxes)), *sends]

    def is_expected(self, now: float) -> bool:
        """Whether a helper is there that has not heard that all is done."""
        return now < self._expected

    def look(self, active: Collection[int], now: float) -> Iterator[Send]:
        """See whether the helper is waited for too long; forget the seeds of tasks that are over."""
        self._boxes = {task: box for task, box in self._boxes.items() if task in active or task in self._wanted}
        versions = {self._version(task) for task in self._boxes}
        self._votes = {version: votes for version, votes in self._votes.items() if version in versions}
        if self.known and now >= self.until:
            self.failure = f"the helper has not told the sum of masks for {self._patience:g} s: is psctl helper there?"
        yield from ()

    busy = False
    """There is nothing that takes long."""

    def work(self) -> None:
        """Do nothing."""

    def wait(self, now: float) -> None:
        """A server is not there whom the helper could tell anything."""
        if self.known:
            self.until = now + self._patience

    def unseal(self) -> None:
        """Return nothing: servers hear from the helper."""

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return what a restarted scheduler needs."""
        boxes = [[task, *box] for task, box in self._boxes.items()]
        return {
            "round": self._round,
            "attempt": self._attempt,
            "offer": self.offer,
            "boxes": boxes,
            "wanted": list(self._wanted),
            "known": self.known,
            "sums": self._sums.dump(),
            "begun": [[version, to_text(digest)] for version, digest in self._begun.items()],
        }

    def load(self, values: dict[str, Any], now: float) -> None:
        """Take what ``dump`` returned."""
        self._round, self._attempt, self.offer = values["round"], values["attempt"], values["offer"]
        self._boxes = {task: (round, rank, box) for task, round, rank, box in values["boxes"]}
        self._wanted, self.known = tuple(values["wanted"]), values["known"]
        self._sums.load(values["sums"])
        self._begun = {version: from_text(digest) for version, digest in values["begun"]}
        for task in self._boxes:
            self._vote(task)
        self.until = now + self._patience if self.known else math.inf
