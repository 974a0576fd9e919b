"""MaskingRound: what clients agree on before they mask, and what they reveal once it is decided who is in the sum.

Beside the collection of an attempt: ``keys`` (who takes part offers keys), ``shares`` (each gives its neighbours shares
of its secrets), ``masked`` (deltas come); and when the survivors are decided, once for all servers, and their sum is on
all servers' disks, ``consent`` (they sign who they are) and ``reveal`` (they give the halves that may be told), of
which the keys that are left in the sum are made. From the consent on all of it outlives the process: what is told can
be told for one sum alone, so that this one must come about. Before it, an attempt that is cut off is given up, and what
was offered for it is of no use for another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal

from ps.errors import BadMessage
from ps.protocol.messages import (
    Cohort,
    Consent,
    Consents,
    KeyOffer,
    KeyShares,
    Message,
    Reveal,
    ShareInbox,
    Submitted,
    Unmask,
    Unseal,
)
from ps.protocol.messages.words import Ruling
from ps.secure.channel import to_text
from ps.secure.cohort import threshold
from ps.secure.identity import identity_in
from ps.secure.sums import FEWEST, TOO_FEW, SumHistory
from ps.secure.unsealing import Unsealing, holders, mutual
from ps.secure.weights import digest_in, of_most
from ps.server.scheduler.rounds.task import ACCEPTED, Task
from ps.server.send import Send
from ps.text import shortened

log = logging.getLogger("ps.scheduler")

PATIENCE = 60.0
"""Seconds for which one of these steps waits for clients that are there and say nothing."""

SLICE = 2
"""Secrets that are put together at a time."""

ClientWord = KeyOffer | KeyShares | Consent | Reveal
Waiting = tuple[int, int]
"""Member and request of who is to be answered."""


class MaskingRound:
    """One attempt's masks, as far as those know who are not to know a single delta."""

    asks = True
    """Clients are asked who is in the sum before they are told that they are."""

    def __init__(self, job_id: str, least: int, patience: float | None, quorum: int = FEWEST) -> None:
        """``least``: clients in a sum. ``patience``: seconds of a step, at most, if that is set. ``quorum``: clients
        of whom nobody is left out."""
        self._quorum = quorum
        self.phase: Literal["off", "keys", "shares", "masked", "consent", "reveal", "known"] = "off"
        self.failure = ""
        """Why the attempt cannot go on, if it cannot."""
        self.until = math.inf
        """When a step waits no longer."""
        self.keys: list[tuple[str, int]] = []
        self._job_id, self._least = job_id, max(FEWEST, least)
        self._sums = SumHistory()
        """The sums of which something was told."""
        self._patience = min(PATIENCE, patience or PATIENCE)
        self._round = self._attempt = 0
        self._clear()

    def _clear(self) -> None:
        self._offers: dict[int, tuple[int, str]] = {}
        self._bundles: dict[int, dict[int, str]] = {}
        self._holders: dict[int, int] = {}
        """By task, how many hold a share of its secrets."""
        self._edges: dict[int, frozenset[int]] = {}
        self._asking: dict[int, Waiting] = {}
        """By task, who waits for the next step."""
        self._survivors: tuple[int, ...] = ()
        self._signatures: dict[int, str] = {}
        self._unsealing: Unsealing | None = None
        self._revealed: set[int] = set()
        self._gone: set[int] = set()
        """Survivors that say nothing more."""
        self.keys, self.failure, self.until = [], "", math.inf

    # From attempt to attempt

    def begin(self, round: int, attempt: int, now: float) -> None:
        """Those who have tasks now are to agree on keys."""
        self._clear()
        self._round, self._attempt = round, attempt
        self._enter("keys", now)

    def end(self, ruling: Ruling) -> Iterator[Send]:
        """The attempt is over: tell those who wait, and forget everything."""
        for task, (member, request) in self._asking.items():
            yield Send(member, Submitted(request, task, ruling))
        self._clear()
        self.phase = "off"

    def _enter(self, phase: Literal["keys", "shares", "masked", "consent", "reveal", "known"], now: float) -> None:
        self.phase = phase
        self.until = math.inf if phase in ("masked", "known") else now + self._patience

    def is_expected(self, now: float) -> bool:
        """Whether a helper is there that has not heard that all is done: there is none."""
        return False

    def admits(self, task: int) -> bool:
        """Whether a task's contribution can be in the sum: its masks are such as can be taken off."""
        return self.phase not in ("off", "keys", "shares") and task in self._edges

    def goal(self, goal: int, survivors: Collection[int]) -> int:
        """Return how many contributions close a collection that would close with ``goal``: these, or one more."""
        least, counted = max(goal, threshold(len(self._edges))), len(survivors)
        return least if counted < least or not self.refusal(survivors) else counted + 1

    def refusal(self, survivors: Collection[int]) -> str:
        """Return why these are not to be summed up, or nothing.

        They hold too few shares of a secret that would be needed, or would refuse themselves.
        """
        here = set(survivors)
        if any(
            len(near & here) + (task in here) < threshold(self._holders[task])
            for task, near in self._edges.items()
            if task in here or near & here
        ):
            return "too few of those who share masks are among them"
        return self._sums.refusal(self._round, set(self._identities(survivors).values()))

    def _identities(self, tasks: Iterable[int]) -> dict[int, bytes]:
        return {task: identity_in(self._offers[task][1]) for task in tasks}

    @property
    def fixed(self) -> bool:
        """Whether it is too late for others to take part: they have to offer keys with the rest."""
        return self.phase != "keys"

    @property
    def known(self) -> bool:
        """Whether it is known what is left in the sum."""
        return bool(self.keys)

    @property
    def told(self) -> bool:
        """Whether something may have been told of a sum, which all servers have on disk."""
        return self.phase in ("consent", "reveal", "known")

    def shown(self, phase: str) -> str:
        """Return the phase of a round, for people: what a collection or an end under masks is about just now."""
        agreeing, telling = self.phase in ("keys", "shares"), self.phase in ("consent", "reveal")
        return "agree" if agreeing else "unmask" if telling else phase

    # What clients say

    def hear(self, message: ClientWord, rank: int, round: int) -> Message | None:
        """Take what a client says of a task that is its own; return the answer, if it is known already."""
        task, request = message.task, message.request
        if self.phase == "off":
            return Submitted(request, task, "abandoned")
        match message:
            case KeyOffer():
                if self.phase == "keys":
                    self._offers.setdefault(task, (rank, message.offer))
                elif task not in self._offers:
                    return Submitted(request, task, "unfinished")
            case KeyShares():
                if task not in self._offers:
                    return Submitted(request, task, "unfinished")
                if self.phase == "shares":
                    self._bundles.setdefault(task, dict(message.shares))
            case Consent():
                if self.phase == "consent" and task in self._survivors:
                    self._signatures.setdefault(task, message.signature)
            case Reveal():
                if self.phase == "reveal" and task in self._signatures and self._unsealing is not None:
                    self._unsealing.take(task, message.shares)
                    self._revealed.add(task)
        self._asking[task] = message.member, request
        answer = self._answer(task, message)
        if answer is not None:
            del self._asking[task]
        return answer

    def _answer(self, task: int, message: ClientWord) -> Message | None:
        """Return what a client is told, None while that is not decided."""
        request = message.request
        match message:
            case KeyOffer() if self.phase != "keys":
                return self._cohort(task, request)
            case KeyShares() if self.phase not in ("keys", "shares"):
                return self._inbox(task, request)
            case Consent() if self.phase not in ("consent", "masked"):
                return self._consents(task, request)
            case Reveal() if self.phase == "known":
                return Submitted(request, task, ACCEPTED)
        return None

    def _cohort(self, task: int, request: int) -> Message:
        if task not in self._offers:
            return Submitted(request, task, "unfinished")
        offers = tuple((task, rank, text) for task, (rank, text) in sorted(self._offers.items()))
        return Cohort(request, self._attempt, offers)

    def _inbox(self, task: int, request: int) -> Message:
        if task not in self._edges or not self._bundles:  # these are gone with the process that had them
            return Submitted(request, task, "unfinished")
        return ShareInbox(request, tuple((other, self._bundles[other][task]) for other in sorted(self._edges[task])))

    def _consents(self, task: int, request: int) -> Message:
        if task not in self._signatures or self.phase == "known":
            return Submitted(request, task, ACCEPTED)
        return Consents(request, tuple(sorted(self._signatures.items())))

    def unmask(self, task: int, request: int) -> Unmask | None:
        """Return what a survivor is told that has submitted, or asks again; None where it is none, or all is known."""
        if self.phase in ("consent", "reveal") and task in self._survivors:
            return Unmask(request, self._survivors)
        return None

    def lose(self, tasks: Iterable[int]) -> None:
        """Of these nothing more comes."""
        self._gone.update(tasks)

    # From step to step

    def close(self, survivors: Collection[int], now: float) -> None:
        """These are in the sum, for all servers alike."""
        self._survivors = tuple(sorted(survivors))
        if len(self._survivors) < self._least:
            self.failure = self._few(len(self._survivors), "are in the sum")
        self._enter("consent", now)

    def ask(self, survivors: Iterable[Task]) -> Iterator[Send]:
        """Tell the survivors that wait who they are; those who are gone say nothing."""
        for task in survivors:
            if task.gone:
                self.lose([task.number])
            elif said := self.unmask(task.number, task.request):
                yield Send(task.member, said)

    def look(self, active: Collection[int], now: float) -> Iterator[Send]:
        """Take the next step if it is due. ``active``: the tasks of which something may still come."""
        late = now >= self.until
        if self.phase == "off":  # the scheduler before this one knew more
            self.failure = "the scheduler was restarted before the sum was unmasked, and what was agreed on is gone"
        if self.phase == "keys" and (late or not (set(active) - self._offers.keys())):
            if len(self._offers) < self._least:
                self.failure = self._few(len(self._offers), "have offered keys")
                return
            offers = self._alike()
            if len(offers) < self._least:
                self.failure = self._few(len(offers), "begin with the same weights")
                return
            identities = self._identities(offers)
            if (out := self._sums.left_out(self._round, identities, self._quorum)) is None:
                if late:
                    self.failure = self._sums.refusal(self._round, set(identities.values()))
                return
            asking = list(self._offers)
            self._offers = {task: offer for task, offer in offers.items() if task not in out}
            self._enter("shares", now)
            yield from self._tell(asking, self._cohort)
        elif self.phase == "shares" and (late or not ((set(active) & self._offers.keys()) - self._bundles.keys())):
            self._edges, self._holders = mutual(self._bundles), holders(self._bundles)
            if len(self._edges) < self._least:
                self.failure = self._few(len(self._edges), "count each other")
                return
            self._enter("masked", now)
            yield from self._tell(self._bundles, self._inbox)
        elif self.phase == "consent" and (late or not self._awaited(self._survivors, self._signatures)):
            if len(self._signatures) < self._least:
                self.failure = self._few(len(self._signatures), "have signed who is in the sum")
                return
            self._sums.note(self._round, set(self._identities(self._survivors).values()))
            self._unsealing = self._unseal()
            self._enter("reveal", now)
            yield from self._tell(self._signatures, self._consents)
        elif self.phase == "reveal" and self._unsealing is not None:
            yield from self._look_at_shares(self._unsealing, late, now)

    def _alike(self) -> dict[int, tuple[int, str]]:
        """Return the offers of those who begin with the weights that most have; say who the others are."""
        digests = {task: digest_in(text) for task, (_, text) in self._offers.items()}
        most = of_most(digests)
        if others := [self._offers[task][0] for task, digest in sorted(digests.items()) if digest != most]:
            log.warning(
                "round %d: clients begin with other weights than most, and are left out: %s. A server gives out "
                "different ones, or they lie",
                self._round,
                shortened(", ".join(map(str, others)), 200),
            )
        return {task: offer for task, offer in self._offers.items() if digests[task] == most}

    def wait(self, now: float) -> None:
        """A server is not there: no step needs it."""

    def _unseal(self) -> Unsealing:
        about = self._job_id, self._round, self._attempt
        return Unsealing(*about, self._offers, self._holders, self._edges, self._survivors)

    @property
    def busy(self) -> bool:
        """Whether there is something to ``work`` on."""
        return self.phase == "reveal" and self._unsealing is not None and self._unsealing.complete

    def work(self) -> None:
        """Do a part of what takes long: with a hundred clients all of it is seconds, and there are heartbeats."""
        if self.busy and self._unsealing is not None:
            try:
                self._unsealing.step(SLICE)
            except BadMessage as error:
                self.failure = f"what was revealed does not fit together: {error}"

    def _look_at_shares(self, unsealing: Unsealing, late: bool, now: float) -> Iterator[Send]:
        if unsealing.complete:
            if not unsealing.is_done:
                return
            self.keys = [(to_text(key), sign) for key, sign in unsealing.left()]
            self._enter("known", now)
            yield from self._tell(self._survivors, lambda task, request: Submitted(request, task, ACCEPTED))
        elif late or not self._awaited(self._signatures, self._revealed):
            self.failure = f"{len(self._revealed)} clients have revealed shares, too few to take the masks off"

    def _awaited(self, whom: Iterable[int], done: Collection[int]) -> set[int]:
        return set(whom) - set(done) - self._gone

    def _tell(self, tasks: Iterable[int], make: Any) -> Iterator[Send]:
        for task in list(tasks):
            if (waiting := self._asking.pop(task, None)) is not None:
                member, request = waiting
                yield Send(member, make(task, request))

    def _few(self, count: int, what: str) -> str:
        sentence = f"; {TOO_FEW}" if count < FEWEST else ""
        return f"{count} clients {what}, and at least {self._least} are needed (--secure-min){sentence}"

    # For the servers, and across restarts

    def unseal(self) -> Unseal:
        """Return what servers are told to take the masks off."""
        return Unseal(self._round, self._attempt, tuple(self.keys))

    def dump(self) -> dict[str, Any]:
        """Return what a restarted scheduler needs, in steps of which something may have been told."""
        values = {
            "round": self._round,
            "attempt": self._attempt,
            "keys": [list(key) for key in self.keys],
            "sums": self._sums.dump(),
        }
        if not self.told or self.known:
            return values
        return values | {
            "phase": self.phase,
            "offers": [[task, *self._offers[task]] for task in self._edges],
            "edges": [[task, self._holders[task], sorted(near)] for task, near in self._edges.items()],
            "survivors": list(self._survivors),
            "signatures": [list(signature) for signature in self._signatures.items()],
        }

    def load(self, values: dict[str, Any], now: float) -> None:
        """Take what ``dump`` returned."""
        self._round, self._attempt = values["round"], values["attempt"]
        self.keys = [(key, sign) for key, sign in values["keys"]]
        self._sums.load(values["sums"])
        if self.keys:
            self.phase = "known"
        elif "phase" in values:
            self._offers = {task: (rank, text) for task, rank, text in values["offers"]}
            self._edges = {task: frozenset(near) for task, _, near in values["edges"]}
            self._holders = {task: count for task, count, _ in values["edges"]}
            self._survivors, self._signatures = tuple(values["survivors"]), dict(values["signatures"])
            self._enter(values["phase"], now)
            self._unsealing = self._unseal() if self.phase == "reveal" else None
