"""Barrier: all live workers meet; whoever is late for the answer can ask again."""

from __future__ import annotations

from collections.abc import Iterable

Passage = tuple[int, int, int]
"""(member, request, clock): tell this member that its request is through, and where all go on."""


class Barrier:
    """One barrier at a time. ``passed`` keeps each member's last answer, so that a retry finds it."""

    def __init__(self, passed: dict[int, tuple[int, int]] | None = None) -> None:
        self.entered: dict[int, tuple[int, int]] = {}
        self.passed = passed or {}

    def enter(self, member: int, request: int, clock: int, live: Iterable[int]) -> list[Passage]:
        """A member arrives with its clock; return whom to let through now."""
        if self.passed.get(member, (-1, 0))[0] == request:
            return [(member, *self.passed[member])]
        self.entered[member] = (request, clock)
        return self.check(live)

    def check(self, live: Iterable[int]) -> list[Passage]:
        """Return whom to let through, now that these workers are live. Gone members are forgotten."""
        alive = set(live)
        self.entered = {member: entry for member, entry in self.entered.items() if member in alive}
        self.passed = {member: entry for member, entry in self.passed.items() if member in alive}
        if not self.entered or alive - self.entered.keys():
            return []
        clock = max(clock for _, clock in self.entered.values())
        through = [(member, request, clock) for member, (request, _) in self.entered.items()]
        self.passed.update({member: (request, clock) for member, request, clock in through})
        self.entered = {}
        return through
