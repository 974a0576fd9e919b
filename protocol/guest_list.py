"""GuestList: who is let in at this moment. One thread changes it, and ZeroMQ's authenticator asks on another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ps.keys.public_keys import PublicKeys

LOCAL = "local"
"""The user id of a process of this host and user, on a Unix socket, whom the kernel vouches for."""


class GuestList:
    """The keys that are let in, by their CURVE half; nobody at first."""

    def __init__(self, patience: float = 0.0) -> None:
        """``patience``: seconds for which an unknown key is neither let in nor refused: it may become known."""
        self.patience = patience
        self._barred: frozenset[str] = frozenset()
        self._known: Mapping[str, PublicKeys] = {}
        self.expects: Callable[[], bool] = lambda: False
        """Whether others are about to be let in, so that no unknown key is refused yet; any thread may ask."""
        self.wondering = False
        """Whether an unknown key waits to become known; set by the authenticator."""

    def admit(self, keys: Iterable[PublicKeys], revoked: Iterable[bytes] = ()) -> set[str]:
        """Let in these and nobody else; return the user ids of those who were let in before and are not any more."""
        barred = frozenset(revoked)
        known = {each.curve.hex(): each for each in keys if each.curve not in barred}
        self._barred = frozenset(each.hex() for each in barred)
        gone = {user for user in self._known if user not in known}
        self._known = known
        self.wondering = False
        return gone

    def find(self, user: str) -> PublicKeys | None:
        """Return whose connection it is that has this user id, unless it is let in no more."""
        return SELF if user == LOCAL else self._known.get(user)

    def bars(self, user: str) -> bool:
        """Whether a key was revoked: whoever comes with it is refused at once."""
        return user in self._barred


SELF = PublicKeys(LOCAL, "local", bytes(32))
"""Stands for whoever speaks on a Unix socket of this user's: it may all that this user may."""
