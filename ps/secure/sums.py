"""SumHistory: in which sums of a round a client has been, so that two of them do not tell what one client sent.

A round that is begun anew after its masks were taken off is trained from the same weights, on the same data: of two
sums whose clients differ by one, the difference is that one's delta. Clients and helpers hold what they are asked for
against it; the scheduler does so that it asks for nothing that they would refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from itertools import combinations, islice
from typing import Any

FEWEST = 3
"""Clients whose sum says nothing of one of them to another one."""
MOST_LEFT_OUT = 2 * FEWEST
MOST_TRIED = 20_000
"""Sets that are looked at to find one that may be summed up."""
TOO_FEW = "a sum over fewer than three clients is no secret: of two, each subtracts its own"


class SumHistory:
    """Sets of identities by round; of the last two rounds.

    ``keep`` is called with all of it, as plain values, before anything is said that makes it true.
    """

    def __init__(self, keep: Callable[[dict[str, Any]], None] = lambda values: None) -> None:
        self._sums: dict[int, list[frozenset[bytes]]] = {}
        self._keep = keep

    def refusal(self, round: int, identities: Set[bytes]) -> str:
        """Return why a client is in no such sum, or nothing."""
        for earlier in self._sums.get(round, ()):
            differ = len(earlier ^ identities)
            if 0 < differ < FEWEST:
                return (
                    f"the sum differs by {differ} of its clients from one of the same round that was told already: "
                    f"the two would tell what a single one sent"
                )
        return ""

    def warning(self, round: int, identities: Set[bytes]) -> str:
        """Return what is to be said of a sum beside that of the round before, or nothing."""
        differ = min((len(earlier ^ identities) for earlier in self._sums.get(round - 1, ())), default=0)
        if not 0 < differ < FEWEST:
            return ""
        return (
            f"the clients of round {round} differ by {differ} from those of the round before: where deltas change "
            f"little from round to round, the two sums say something of a single one's"
        )

    def note(self, round: int, identities: Set[bytes]) -> None:
        """A client has revealed what such a sum may be told with."""
        known = self._sums.setdefault(round, [])
        if frozenset(identities) not in known:
            known.append(frozenset(identities))
            self._sums = {number: found for number, found in self._sums.items() if number >= round - 1}
            self._keep(self.dump())

    def left_out(self, round: int, identities: Mapping[int, bytes], least: int) -> frozenset[int] | None:
        """Return which tasks are to be left out, as few as possible, so that the sum of the others is not refused.

        ``identities`` are the tasks'. None where that would leave fewer than ``least``.
        """
        tasks = sorted(identities)
        few = (
            frozenset(out)
            for count in range(max(0, min(MOST_LEFT_OUT, len(tasks) - least)) + 1)
            for out in combinations(tasks, count)
        )
        return next((out for out in islice(few, MOST_TRIED) if not self._refuses(round, identities, out)), None)

    def _refuses(self, round: int, identities: Mapping[int, bytes], out: Set[int]) -> bool:
        return bool(self.refusal(round, {identity for task, identity in identities.items() if task not in out}))

    def dump(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {
            str(round): [sorted(each.hex() for each in found) for found in sets] for round, sets in self._sums.items()
        }

    def load(self, values: Mapping[str, Any]) -> None:
        """Take what ``dump`` returned. Raises ValueError or TypeError for what is nothing of the kind."""
        self._sums = {
            int(round): [frozenset(bytes.fromhex(each) for each in found) for found in sets]
            for round, sets in values.items()
        }
