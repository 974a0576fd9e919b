"""Unasked: whether a connection that this process made is cut, because more comes on it than was asked for.

Whoever listens says nothing of its own accord but news of the job, so what comes and is not taken is bounded by the
answers that are due. It may be a message without an end, of which ZeroMQ keeps every frame, or any number of whole
ones while a script computes and reads nothing. The memory of this process tells nothing here: a script has the most.
"""

from __future__ import annotations

MOST_UNASKED = 16 << 20
"""Bytes that come, are not taken and are no answer that is due, at most; in small frames they take twenty times that.

News of the job are far shorter. They wait together where a script holds the interpreter in a long call.
"""
LOOKS = 2
"""Looks in a row that find too much: at one alone, answers may have come and been taken while the numbers were read."""


class Unasked:
    """Decides by what was received on the connection that there is, by what was taken off it, and by what is due."""

    def __init__(self) -> None:
        self._received = 0
        """Bytes that came on this connection, at the last look."""
        self._earlier = 0
        """Bytes that came on connections before it and were not taken when they broke."""
        self._taken = 0
        """Bytes that were taken when this connection was made."""
        self._waiting = 0
        self._drains = -1
        self._found = 0

    def connected(self, taken: int) -> None:
        """Note that the connection is a new one. ``taken``: the bytes taken since the first was made."""
        self._earlier, self._taken, self._received = max(0, self._waiting), taken, 0

    def look(self, received: int, taken: int, drains: int, due: int) -> bool:
        """Return whether the connection is to be cut.

        ``received``: bytes that came on this connection; ``taken``: bytes of messages and their frames that were
        taken, and ``drains``: how often none was left, both since the first connection; ``due``: bytes of answers.
        """
        if drains != self._drains:  # what is left of earlier connections has no end and was dropped with them
            self._drains, self._earlier = drains, 0
        self._received = max(self._received, received)
        self._waiting = self._earlier + self._received - (taken - self._taken)
        self._found = self._found + 1 if self._waiting > due + MOST_UNASKED else 0
        return self._found >= LOOKS
