"""StopPoint: where training ends, as one worker has heard of it, and how far the worker has begun.

Two threads share it without a lock. The script's says which step it begins, and then looks whether it was asked how far
it is. The one that talks to the scheduler notes that it was asked, and then how far the script has begun. So whichever
comes first, no step is begun beyond what was answered.
"""

from __future__ import annotations

import logging

from ps.protocol.messages import Message, StopReady, StopRequest, View

log = logging.getLogger("ps.worker")


class StopPoint:
    """What is known of the end of training."""

    def __init__(self) -> None:
        self.begun = 0
        """Steps that the script has begun, or was told to go on with."""
        self.asked = False
        """Whether some worker wants training to end."""
        self.limit: int | None = None
        """How many of its steps this worker has said to have begun."""
        self.end: int | None = None
        """How many steps it takes in all, once that is decided."""
        self.reason = ""
        self._wish: str | None = None
        self._clock = 0
        self._told = False

    # The script's thread

    def begin(self, clock: int) -> bool | None:
        """Whether the step after ``clock`` of them may be begun; None: that is about to be decided."""
        self.begun = clock + 1
        if not self.asked:
            return True
        limit, end = self.limit, self.end
        if limit is not None and clock < limit:
            return True
        if end is not None and clock >= end:
            self.tell(clock)
        return None if end is None else clock < end

    def tell(self, clock: int) -> None:
        """Say once that training has ended before its time, if it has."""
        if self.end is not None and not self._told:
            self._told = True
            log.info("training ends at clock %d: %s", clock, self.reason)

    def wish(self, clock: int, reason: str) -> StopRequest:
        """Have training end; return what says so, from member 0."""
        self._clock, self._wish = clock, reason
        return StopRequest(0, clock, reason)

    def over(self, clock: int) -> bool:
        """Whether no step follows, as far as is known; from any thread."""
        end = self.end
        return end is not None and clock >= end

    # Whoever hears of the end

    def hear(self, view: View) -> bool:
        """Take a view; return whether it asks something."""
        if not view.stop:
            return False
        self.asked = True
        if self.limit is None:
            self.limit = self.begun
        if view.stop == "decided":
            self.decide(view.clock, view.why)
        return self.end is None

    def decide(self, clock: int, reason: str) -> None:
        """Training ends at a clock, or where this worker is if that is later."""
        if self.end is None:
            self.asked, self.reason = True, reason
            self.limit = self.begun if self.limit is None else self.limit
            self.end = max(clock, self.limit)

    def say(self, member: int) -> list[Message]:
        """Return what the scheduler is to be told, again and again until it has heard it."""
        if self.end is not None:
            return []
        if self.limit is not None:
            return [StopReady(member, self.limit)]
        return [] if self._wish is None else [StopRequest(member, self._clock, self._wish)]
