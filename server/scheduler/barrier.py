"""Barrier: all live workers meet, twice, and whoever is late for the answer can ask again.

They meet a first time to stop and to learn where they go on, and a second time when every server knows that. A worker
that comes in between is not waited for the second time: it trains, and needs those who would wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ps.protocol.messages import BarrierLeave
from ps.server.send import Send

Passage = tuple[int, int, int]
"""(member, request, clock): tell this member that its request is through, and where all go on."""


class Barrier:
    """One barrier at a time. ``passed`` keeps each member's last answer, so that a retry finds it."""

    def __init__(self) -> None:
        self.entered: dict[int, tuple[int, int, bool]] = {}
        """Member -> (request, clock, whether it will meet the others a second time)."""
        self.passed: dict[int, tuple[int, int]] = {}
        self.inside: set[int] = set()
        """Those who met once and are to meet again."""
        self.count = 0
        """How many have been begun."""

    def enter(self, member: int, request: int, clock: int, twice: bool, live: Iterable[int]) -> list[Passage]:
        """A member arrives with its clock; return whom to let through now."""
        last = self.passed.get(member)
        if last is not None and request <= last[0]:
            return [(member, *last)] if request == last[0] else []
        self.entered[member] = (request, clock, twice)
        return self.check(live)

    def check(self, live: Iterable[int]) -> list[Passage]:
        """Return whom to let through, now that these workers are live. Gone members are forgotten."""
        alive = set(live)
        self.entered = {member: entry for member, entry in self.entered.items() if member in alive}
        self.passed = {member: entry for member, entry in self.passed.items() if member in alive}
        self.inside &= alive
        if self.inside:
            if not self.inside <= self.entered.keys():
                return []
            group, self.inside = self.inside, set()
            return self._pass(group)
        if not self.entered or alive - self.entered.keys():
            return []
        self.inside = {member for member, (_, _, twice) in self.entered.items() if twice}
        self.count += 1
        return self._pass(set(self.entered))

    def _pass(self, group: set[int]) -> list[Passage]:
        entries = {member: self.entered.pop(member) for member in sorted(group)}
        clock = max(clock for _, clock, _ in entries.values())
        through = [(member, request, clock) for member, (request, _, _) in entries.items()]
        self.passed.update({member: (request, clock) for member, request, clock in through})
        return through

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values."""
        entered = [[member, *entry] for member, entry in self.entered.items()]
        passed = [[member, *entry] for member, entry in self.passed.items()]
        return {"entered": entered, "passed": passed, "inside": sorted(self.inside), "count": self.count}

    @staticmethod
    def load(values: dict[str, Any]) -> Barrier:
        """Return what ``dump`` wrote."""
        barrier = Barrier()
        barrier.entered = {member: (request, clock, twice) for member, request, clock, twice in values["entered"]}
        barrier.passed = {member: (request, clock) for member, request, clock in values["passed"]}
        barrier.inside = set(values["inside"])
        barrier.count = values.get("count", 0)
        return barrier


def passed(passages: Iterable[Passage]) -> list[Send]:
    """Return what those are told who are let through."""
    return [Send(member, BarrierLeave(request, clock)) for member, request, clock in passages]
