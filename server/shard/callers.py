"""Callers: who speaks to this server on which connection, as far as it has been shown."""

from __future__ import annotations

from typing import Any

from ps.keys.public_keys import PublicKeys
from ps.protocol.messages import Error, Identify, Introduce
from ps.server.bindings import Bindings, stranger, unproven
from ps.server.job_key import JobKey
from ps.server.send import Line, Origin

MOST = 1000
"""Introductions that are kept until this server knows its job, at most."""


class Callers:
    """Believes who proves to be a member, and of several lives of one rank the latest that has come."""

    def __init__(self) -> None:
        self._key: JobKey | None = None
        self._bindings = Bindings[Origin]()
        self._lives: dict[int, tuple[int, int]] = {}
        """Rank -> (number, member) of the worker that has it."""
        self._early: dict[Origin, tuple[Identify, PublicKeys | None]] = {}
        self._shown: set[int] = set()
        """The members that the latest view has shown."""
        self._keys: dict[int, bytes] = {}
        """The CURVE key of each member that has shown itself on a connection with one."""

    @property
    def key(self) -> JobKey | None:
        """What proves who is a member, once this server knows its job."""
        return self._key

    @property
    def joined(self) -> bool:
        """Whether this server knows its job."""
        return self._key is not None

    def join(self, key: JobKey) -> list[tuple[Origin, Error]]:
        """This server is a member of this job; return what those are told who said too early who they are."""
        self._key = key
        early, self._early = self._early, {}
        found = [(origin, self.identify(origin, *about)) for origin, about in early.items()]
        return [(origin, error) for origin, error in found if error is not None]

    def identify(self, origin: Origin, message: Identify, speaker: PublicKeys | None = None) -> Error | None:
        """Take somebody's word on who it is; return what is wrong with it. ``speaker``: whose key it connected with."""
        key = self._key
        if key is None:
            if len(self._early) < MOST:
                self._early[origin] = message, speaker
            return None
        if message.job_id != key.job_id:
            text = (
                "a server of another job is at this address by now; the one that this process belongs to has ended, or "
                "this server of it. Start this process anew to take part in the new one"
            )
            return Error(message.request, "another-job", text)
        if (refusal := unproven(message, key)) is not None:
            return refusal
        if speaker is not None and self._keys.setdefault(message.member, speaker.curve) != speaker.curve:
            return Error(message.request, "stranger", "this member came with another key before")
        number, former = self._lives.get(message.rank, (0, 0))
        if number > message.number:
            text = f"worker {message.rank} is another process by now: this one was declared dead, or has left"
            return Error(message.request, "evicted", text)
        if former != message.member:
            self._bindings.release(former)
            self._keys.pop(former, None)
        self._lives[message.rank] = message.number, message.member
        self._bindings.bind(message.member, origin)
        return None

    def introduce(self, origin: Origin, message: Introduce, speaker: PublicKeys | None = None) -> Error | None:
        """Take the word of another server, which has proved to be one; return what is wrong with its CURVE key."""
        if speaker is not None and self._keys.setdefault(message.member, speaker.curve) != speaker.curve:
            return Error(message.request, "stranger", "this member came with another key before")
        self._bindings.bind(message.member, origin)
        return None

    def lines_of_the_gone(self, members: set[int]) -> list[Line]:
        """Forget the workers on lines who are not among these members any more; return those lines."""
        gone, self._shown = self._shown - members, members
        found = [(member, origin) for member in gone if isinstance(origin := self._bindings.of(member), Line)]
        for member, _ in found:
            self._bindings.release(member)
        return [line for _, line in found]

    def refusal(self, origin: Origin, message: Any) -> Error | None:
        """Return what is said to somebody who has not shown to be the member that a message is from, if so."""
        return None if self._bindings.speaks(origin, message) else stranger(message)
