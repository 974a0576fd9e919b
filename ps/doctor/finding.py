"""Finding: one thing that was looked at, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from ps.dataclass import dataclass

State = Literal["ok", "warning", "wrong", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``about``: the host or member; ``what`` was looked at; ``found``: how it is; ``advice``: what to do, if anything.

    ``code``: what a process ends with because of it, where another exit code than 1 says more.
    """

    about: str
    what: str
    state: State
    found: str
    advice: str = ""
    code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        row = {"about": self.about, "what": self.what, "state": self.state, "found": self.found}
        return {**row, "advice": self.advice} if self.advice else row


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 where nothing is wrong, what the first that is wrong says, or 1."""
    wrong = [finding for finding in findings if finding.state == "wrong"]
    return next((finding.code for finding in wrong if finding.code), 1) if wrong else 0
