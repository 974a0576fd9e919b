"""Task: one client's part in one round, from its assignment to the verdict on its contribution."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, Final, Literal

from ps.dataclass import dataclass
from ps.protocol.messages.words import Defect, Refusal, Ruling

State = Literal["open", "submitted", "accepted"] | Refusal
OPEN: Final = "open"
SUBMITTED: Final = "submitted"
ACCEPTED: Final = "accepted"
VANISHED: Final = "vanished"
DECLINED: Final = "declined"
"""Its client gave it back: it has nothing to contribute now."""
SPARE: Final = "spare"
"""The round was full without it: more clients are selected than are needed, so that nobody has to be waited for."""
STALE: Final = "stale"
"""More updates were published since its client began than a delta may be behind."""


@dataclass(slots=True)
class Task:
    """``state`` is open, submitted, accepted, or the reason why the contribution does not count.

    ``shares`` are squared norms by server rank; ``request`` is that of the Submit which waits for a verdict.
    """

    number: int
    member: int
    rank: int
    round: int
    began: float
    evaluate: bool = False
    state: State = OPEN
    version: int = 0
    examples: float = 0.0
    steps: int = 0
    report: dict[str, float] = field(default_factory=dict)
    request: int = 0
    shares: dict[int, float] = field(default_factory=dict)
    wrong: Defect = ""
    submitted: float = 0.0
    """When it was, the last time."""
    gone: bool = False
    """Whether its client is gone: what was submitted may count, and nothing more will come."""
    seen: bool = False
    """Whether its numbers are among those from which it is told what is typical."""

    @property
    def active(self) -> bool:
        """Whether a contribution may still come of it."""
        return self.state in (OPEN, SUBMITTED)

    @property
    def ruling(self) -> Ruling:
        """What its client is told of it, now that it is over."""
        if self.state == OPEN or self.state == SUBMITTED:
            raise ValueError(f"task {self.number} is not over")
        return self.state

    @property
    def norm_squared(self) -> float:
        """The squared L2 norm of the delta over all servers, in the order of their ranks."""
        return sum(self.shares[server] for server in sorted(self.shares))

    def dump(self) -> dict[str, Any]:
        """Return the task as plain values; what servers have of it they say again."""
        return {name: getattr(self, name) for name in _KEPT}

    @staticmethod
    def load(values: dict[str, Any], now: float) -> Task:
        """Return what ``dump`` wrote, as if it had just begun."""
        return Task(**values, began=now, submitted=now)


_KEPT = tuple(f.name for f in fields(Task) if f.name not in ("began", "submitted", "shares", "request", "wrong"))
