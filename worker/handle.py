"""Handle: what ``push`` and ``pull`` return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ps.errors import StateError
from ps.worker.background import Pending
from ps.worker.interrupt import HOLD
from ps.worker.store import Store


class Owner(Protocol):
    """The connection that a handle belongs to."""

    _store: Store


def demand(handle: Any, owner: Owner) -> Handle:
    """Return what a script gave as a handle of this connection. Raises StateError when it is none."""
    if not isinstance(handle, Handle) or not handle.belongs_to(owner):
        kind = "a handle of another connection" if isinstance(handle, Handle) else type(handle).__name__
        raise StateError(f"kv.wait takes a handle that kv.push or kv.pull returned, not {kind}")
    return handle


class Handle:
    """A push or pull under way. ``kv.wait(handle)`` waits for it; so does the next push for the one before it."""

    __slots__ = ("_finish", "_owner", "_pending")

    def __init__(self, owner: Owner, pending: Pending, finish: Callable[[], None] | None = None) -> None:
        self._owner = owner
        self._pending = pending
        self._finish = finish

    @property
    def done(self) -> bool:
        """Whether everything was answered. What was pulled is in its place after ``kv.wait``, not before."""
        if not self._pending.done:
            with HOLD:
                self._owner._store.background.poll()
        return self._pending.done

    @property
    def staleness(self) -> int:
        """The greatest staleness among the answers so far, as the mode counts it."""
        return self._pending.staleness

    @property
    def pending(self) -> Pending:
        """The exchange as the store knows it."""
        return self._pending

    def belongs_to(self, owner: Owner) -> bool:
        """Whether this connection made the handle."""
        return self._owner is owner

    def finish(self) -> None:
        """Put what was pulled in its place; the second time there is nothing to do."""
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()

    def __repr__(self) -> str:
        return f"<Handle {'done' if self._pending.done else 'under way'}>"
