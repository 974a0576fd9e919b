"""The fewest contributions an aggregator makes sense for, as an error that says so."""

from __future__ import annotations

from ps.errors import UsageError


def demand(aggregator: str, least: int, contributions: int) -> None:
    """Raise UsageError when there are fewer than ``least`` contributions; ``aggregator`` is its text."""
    if contributions < least:
        raise UsageError(
            f"aggregator {aggregator} needs at least {least} contribution{'s' * (least != 1)}, not {contributions}: "
            f"take more clients in a round{', or smaller numbers for the aggregator' * (':' in aggregator)}"
        )
