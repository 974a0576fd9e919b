"""Bindings: which member speaks on which connection.

A member's word counts only on the connection on which it has said who it is. So nobody can say anything for another
whose id is known, and the process that a member was before, or one of another job, says nothing at all.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Generic, TypeVar

from ps.protocol.messages import Error, Identify
from ps.server.job_key import JobKey

At = TypeVar("At")
"""What tells one connection from another."""


class Bindings(Generic[At]):
    """The latest connection of each member. One connection may be that of several members."""

    def __init__(self) -> None:
        self._origins: dict[int, At] = {}

    def bind(self, member: int, origin: At) -> None:
        """A member has shown that it is at the other end; what comes on its former connection counts no more."""
        self._origins[member] = origin

    def release(self, member: int) -> None:
        """Believe nobody who says that it is this member."""
        self._origins.pop(member, None)

    def of(self, member: int) -> At | None:
        """Return the connection of a member, if it has shown itself."""
        return self._origins.get(member)

    def speaks(self, origin: At, message: Any) -> bool:
        """Whether a message, whatever it is, comes on the connection of the member that it names."""
        return self._origins.get(getattr(message, "member", 0)) == origin

    def keep(self, members: Container[int]) -> None:
        """Forget all but these members."""
        self._origins = {member: origin for member, origin in self._origins.items() if member in members}

    def __len__(self) -> int:
        return len(self._origins)


def stranger(message: Any) -> Error:
    """Return what somebody is told who says something for a member without having shown that it is that member."""
    text = f"a {type(message).__name__} from a connection that has not shown to be this member's: Identify first"
    return Error(getattr(message, "request", 0), "stranger", text)


def unproven(message: Identify, key: JobKey) -> Error | None:
    """Return what somebody is told who does not prove to be the member of this job that it says it is."""
    if message.proof == key.proof(message.member, message.rank, message.number):
        return None
    return Error(message.request, "stranger", "this does not prove who you are: it is not what Welcome said")
