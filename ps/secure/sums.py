"""SumHistory: in which sums of a round a client has been, so that two of them do not tell what one client sent.

A round that is begun anew after its masks were taken off is trained from the same weights, on the same data: of two
sums whose clients differ by one, the difference is that one's delta.
"""

from __future__ import annotations

from collections.abc import Set

FEWEST = 3
"""Clients whose sum says nothing of one of them to another one."""
TOO_FEW = "a sum over fewer than three clients is no secret: of two, each subtracts its own"


class SumHistory:
    """Sets of identities by round; of the last two rounds."""

    def __init__(self) -> None:
        self._sums: dict[int, list[frozenset[bytes]]] = {}

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
