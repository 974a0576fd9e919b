"""Selection: the clients that wait to take part, and the chance that draws from them."""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Set

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Offer:
    """A Poll that is not answered yet."""

    member: int
    request: int
    rank: int


class Selection:
    """Who is drawn depends on the seed, the occasion and the clients that wait, not on the order in which they came."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chance = random.Random(seed)
        self._rested: set[int] = set()
        """Clients that were sent away once since they had a task."""
        self._offers: dict[int, Offer] = {}
        self._order: list[tuple[int, int]] = []
        """(rank, member) of each of the offers: kept sorted, so that a draw costs no more where many thousands wait."""
        self._aside: dict[int, Offer] = {}
        """Those that were not taken, where each is asked about once."""

    def __len__(self) -> int:
        return len(self._offers) + len(self._aside)

    def offer(self, offer: Offer) -> None:
        """Let a client wait; it is the last of those that do."""
        self.withdraw(offer.member)
        self._offers[offer.member] = offer
        insort(self._order, (offer.rank, offer.member))

    def rest(self, rank: int) -> bool:
        """Whether a client that has just had a task should stay away once: else those that are here would be drawn
        again and again, before those that are told to come back later."""
        if rank in self._rested:
            return False
        self._rested.add(rank)
        return True

    def chance(self) -> float:
        """Return a number from 0 to 1."""
        return self._chance.random()

    def withdraw(self, member: int) -> None:
        """A client waits no more."""
        if member in self._offers:
            self._take(member)
        self._aside.pop(member, None)

    def _take(self, member: int) -> Offer:
        offer = self._offers.pop(member)
        del self._order[bisect_left(self._order, (offer.rank, member))]
        return offer

    def has_free(self, busy: Set[int]) -> bool:
        """Whether somebody could be drawn."""
        return any(rank not in busy for rank, _ in self._order)

    def draw(self, count: int, busy: Set[int], occasion: str) -> Iterator[Offer]:
        """Take so many of those that wait, or all there are, in the order in which they are drawn: where more are taken
        than count, no rank is always the last. Those whose ranks are ``busy`` go on waiting."""
        if count < 1 or not self._offers:
            return
        free = [each for each in self._order if each[0] not in busy] if busy else self._order
        chance = random.Random(f"{self._seed}/{occasion}")
        for rank, member in chance.sample(free, min(count, len(free))):
            self._rested.discard(rank)
            yield self._take(member)

    def take(self, wanted: Callable[[int], bool], busy: Set[int]) -> Iterator[Offer]:
        """Take all whose ranks are ``wanted``, by rank, but those that are ``busy``; the others wait aside."""
        order, offers = self._order, self._offers
        self._order, self._offers = [], {}
        for offer in (offers[member] for _, member in order):
            if offer.rank not in busy and wanted(offer.rank):
                yield offer
            else:
                self._aside[offer.member] = offer

    def remove(self, unwanted: Callable[[int], bool]) -> Iterator[Offer]:
        """Take those whose ranks are ``unwanted``."""
        for offer in [each for each in (*self._offers.values(), *self._aside.values()) if unwanted(each.rank)]:
            self.withdraw(offer.member)
            yield offer

    def recall(self) -> None:
        """Those who wait aside can be taken again."""
        self._offers = {**self._aside, **self._offers}
        self._aside = {}
        self._order = sorted((offer.rank, offer.member) for offer in self._offers.values())

    def dismiss(self) -> Iterator[Offer]:
        """Take all that wait, in the order in which they came."""
        offers = [*self._aside.values(), *self._offers.values()]
        self._offers, self._aside, self._order = {}, {}, []
        yield from offers
