"""PairwiseClient: one client's part in one task's masks, step by step. Texts in, texts out; no sockets.

SecAgg+ with double masks (Bonawitz et al., CCS 2017; Bell et al., CCS 2020): each pair of neighbours shares a mask that
cancels in the sum, and each client has one of its own. Of the key for the one and the seed of the other every neighbour
holds a share, and gives away one of the two: of who is in the sum the seed, of who dropped out the key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.secure.channel import KEY_BYTES, agree, from_text, private_key, public_of, seal, to_text, unseal
from ps.secure.cohort import digest, neighbours, threshold
from ps.secure.identity import PUBLIC, SIGNATURE, Lists, Signer, signed
from ps.secure.masks import derive
from ps.secure.sharing import SECRET, split
from ps.secure.sums import FEWEST, TOO_FEW, SumHistory
from ps.secure.weights import DIGEST

_BOX = 1 + 2 * SECRET


class WillNot(BadMessage):
    """What a client is asked for would say too much: it takes no part in it."""


@dataclass(frozen=True, slots=True)
class MaskedTask:
    """Which task of which job, in which round; all keys are for it alone."""

    job_id: str
    round: int
    task: int
    rank: int


@dataclass(frozen=True, slots=True)
class OfferedKeys:
    """Whom an offer is of, the public keys in it, and the digest of the weights that its client begins with."""

    identity: bytes
    mask: bytes
    channel: bytes
    weights: bytes


def pair_key(shared: bytes, about: MaskedTask, attempt: int, one: int, other: int) -> bytes:
    """Return the key of the mask that two tasks have in common."""
    return derive(shared, "pair", about.job_id, about.round, attempt, min(one, other), max(one, other))


def self_key(secret: bytes, about: MaskedTask, attempt: int, task: int) -> bytes:
    """Return the key of the mask that a task has for itself."""
    return derive(secret, "self", about.job_id, about.round, attempt, task)


def read_offer(text: str, about: MaskedTask) -> OfferedKeys:
    """Return what an offer says. Raises BadMessage where it is not signed by the identity in it, for this task."""
    data = from_text(text, PUBLIC + 2 * KEY_BYTES + DIGEST + SIGNATURE)
    identity, said = data[:PUBLIC], data[PUBLIC:-SIGNATURE]
    if not signed(identity, data[-SIGNATURE:], _offer_text(about, said)):
        raise BadMessage(f"the keys of client {about.rank} are not signed by the identity that is named with them")
    return OfferedKeys(identity, said[:KEY_BYTES], said[KEY_BYTES:-DIGEST], said[-DIGEST:])


def _offer_text(about: MaskedTask, said: bytes) -> bytes:
    return f"paramserver offer {about.job_id} {about.round} {about.task} {about.rank} ".encode() + said


def _survivors_text(about: MaskedTask, attempt: int, cohort: bytes, survivors: Sequence[int]) -> bytes:
    text = f"paramserver survivors {about.job_id} {about.round} {attempt} "
    return text.encode() + cohort + ",".join(map(str, sorted(survivors))).encode()


class PairwiseClient:
    """Makes an offer, takes the cohort, gives shares, masks, consents to the survivors, and reveals."""

    def __init__(
        self,
        about: MaskedTask,
        weights: bytes,
        signer: Signer,
        lists: Lists,
        least: int,
        told: SumHistory | None = None,
    ) -> None:
        """``weights``: the digest of what this client begins with; ``lists``: whom it counts; ``least``: so many,
        itself among them, must be in the sum; ``told``: the sums that it has been in.
        """
        self._weights = weights
        self._told = told or SumHistory()
        self._about, self._signer, self._lists = about, signer, lists
        self._least = max(FEWEST, least)
        self._key_secret, self._seed = os.urandom(SECRET), os.urandom(SECRET)
        self._mask, self._channel = private_key(self._key_secret), private_key(os.urandom(SECRET))
        self._attempt = 0
        self._cohort = b""
        self._others: dict[int, OfferedKeys] = {}
        """By task, those of the cohort that this client lists and that begin with its weights, itself included."""
        self._near: tuple[int, ...] = ()
        """The neighbours that it lists."""
        self._held: dict[int, tuple[int, bytes, bytes]] = {}
        """By task: number, share of the seed, share of the key. Those who have one of this client's hold both masks."""
        self._survivors: frozenset[int] | None = None
        self._counted: set[bytes] = set()
        """The identities that count among them."""
        self.warning = ""
        """What is to be said of the sum that it has consented to, if anything."""

    def offer(self) -> str:
        """Return this client's public keys, and the digest of what it begins with, signed."""
        said = public_of(self._mask) + public_of(self._channel) + self._weights
        return to_text(self._signer.public + said + self._signer.sign(_offer_text(self._about, said)))

    def shares(self, attempt: int, cohort: Sequence[tuple[int, int, str]]) -> tuple[tuple[int, str], ...]:
        """Take all offers as (task, rank, text); return a sealed share for each neighbour that counts.

        Raises WillNot where too few of them do, or this client is not among them as it was.
        """
        about, mine = self._about, self._about.task
        offers = {task: text for task, _, text in cohort}
        if len(offers) != len(cohort) or offers.get(mine) != self.offer():
            raise WillNot("a cohort in which this client is not as it offered itself, or a task comes twice")
        seen: set[bytes] = set()
        apart = 0
        for task, rank, text in sorted(cohort):
            try:
                keys = read_offer(text, MaskedTask(about.job_id, about.round, task, rank))
            except BadMessage:
                continue
            if keys.identity not in seen and (task == mine or self._lists(keys.identity)):
                seen.add(keys.identity)
                if keys.weights == self._weights:
                    self._others[task] = keys
                else:
                    apart += 1
        if mine not in self._others:
            raise WillNot("another client goes by this client's identity")
        begin = f" with its weights, and {apart} with others that a server gave to one of them" if apart else ""
        self._demand(len(self._others), f"take part in the round{begin}")
        self._attempt, self._cohort = attempt, digest(offers)
        self._near = tuple(task for task in neighbours(offers)[mine] if task in self._others)
        holders = sorted((*self._near, mine))
        need = threshold(len(holders))
        parts = zip(
            holders, split(self._seed, need, len(holders)), split(self._key_secret, need, len(holders)), strict=True
        )
        rows = []
        for holder, (number, seed), (_, key) in parts:
            if holder == mine:
                self._held[mine] = number, seed, key
            else:
                shared = agree(self._channel, self._others[holder].channel)
                box = seal(shared, bytes([number]) + seed + key, *self._shares_for(mine, holder))
                rows.append((holder, to_text(box)))
        return tuple(rows)

    def take(self, inbox: Sequence[tuple[int, str]]) -> None:
        """Take the shares of those who have this client's; with them it has masks in common."""
        mine = self._about.task
        for task, text in inbox:
            if task in self._near:
                shared = agree(self._channel, self._others[task].channel)
                plain = unseal(shared, from_text(text), *self._shares_for(task, mine))
                if len(plain) != _BOX:
                    raise BadMessage(f"a share of {len(plain)} bytes; expected {_BOX}")
                self._held[task] = plain[0], plain[1 : 1 + SECRET], plain[1 + SECRET :]
        if len(self._held) < (need := threshold(len(self._near) + 1)):
            raise WillNot(
                f"{len(self._held)} clients share masks with this one, itself included, and {need} are needed"
            )

    def _shares_for(self, source: int, target: int) -> tuple[object, ...]:
        return "shares", self._about.job_id, self._about.round, self._attempt, source, target

    def _demand(self, count: int, what: str) -> None:
        if count < FEWEST:
            raise WillNot(f"{count} clients that this one lists {what}; {TOO_FEW}")
        if count < self._least:
            raise WillNot(f"{count} clients that this one lists {what}, and it wants {self._least} (--secure-min)")

    @property
    def masks(self) -> list[tuple[bytes, int]]:
        """The keys of this client's masks, each with its sign."""
        about, mine = self._about, self._about.task
        found = [(self_key(self._seed, about, self._attempt, mine), 1)]
        for task in sorted(self._held):
            if task != mine:
                shared = agree(self._mask, self._others[task].mask)
                found.append((pair_key(shared, about, self._attempt, mine, task), 1 if mine < task else -1))
        return found

    def consent(self, survivors: Sequence[int]) -> str:
        """Return this client's signature of the survivors: there is no other set that it will ever sign for this task.

        Raises WillNot where fewer of them count than it wants, or it is not among them.
        """
        chosen = frozenset(survivors)
        if self._survivors not in (None, chosen):
            raise WillNot("other survivors than those that were named before: both masks of one client would be told")
        if self._about.task not in chosen:
            raise WillNot("survivors among which this client is not")
        counted = {self._others[task].identity for task in chosen & self._others.keys()}
        self._demand(len(counted), "are in the sum")
        if self._survivors is None:
            if why := self._told.refusal(self._about.round, counted):
                raise WillNot(why)
            self.warning = self._told.warning(self._about.round, counted)
            self._counted = counted
        self._survivors = chosen
        return to_text(self._signer.sign(self._text(survivors)))

    def _text(self, survivors: Sequence[int]) -> bytes:
        return _survivors_text(self._about, self._attempt, self._cohort, survivors)

    def reveal(self, consents: Sequence[tuple[int, str]]) -> tuple[tuple[int, str], ...]:
        """Take the survivors' signatures; return, of each share that this client holds, the half that may be told.

        Raises WillNot where too few that it lists have signed the same survivors, or too few of those near it have.
        """
        assert self._survivors is not None
        text = self._text(sorted(self._survivors))
        good = {self._about.task}
        for task, signature in consents:
            keys = self._others.get(task)
            if keys is not None and task in self._survivors and signed(keys.identity, from_text(signature), text):
                good.add(task)
        self._demand(len(good), "have signed the same survivors")
        near = len(good & self._held.keys())
        if near < (need := threshold(len(self._near) + 1)):
            raise WillNot(f"{near} of those who hold this client's shares signed the same survivors; {need} are needed")
        self._told.note(self._about.round, self._counted)
        return tuple(
            (task, to_text(bytes([number]) + (seed if task in self._survivors else key)))
            for task, (number, seed, key) in sorted(self._held.items())
        )
