"""Unsealing: what whoever gathers the shares makes of them: the keys that are left in the sum. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

from ps.errors import BadMessage
from ps.secure.channel import agree, from_text, private_key, public_of
from ps.secure.cohort import threshold
from ps.secure.pairwise import MaskedTask, pair_key, read_offer, self_key
from ps.secure.sharing import SECRET, combine

Bundle = Mapping[int, str]
"""Of each neighbour the sealed share for it."""


def mutual(bundles: Mapping[int, Bundle]) -> dict[int, frozenset[int]]:
    """Return with whom each task has masks: whoever gave it a share, and got one of it.

    Left out are those of whose secrets too few hold a share.
    """
    inside = set(bundles)
    while True:
        edges = {
            task: frozenset(other for other in bundles[task] if other in inside and task in bundles[other])
            for task in inside
        }
        lacking = {
            task for task, near in edges.items() if not near or len(near) + 1 < threshold(len(bundles[task]) + 1)
        }
        if not lacking:
            return edges
        inside -= lacking


def holders(bundles: Mapping[int, Bundle]) -> dict[int, int]:
    """Return how many hold a share of each task's secrets: those whom it gave one, and its own client."""
    return {task: len(bundle) + 1 for task, bundle in bundles.items()}


class Unsealing:
    """Gathers the shares for one set of survivors."""

    def __init__(
        self,
        job_id: str,
        round: int,
        attempt: int,
        offers: Mapping[int, tuple[int, str]],
        holders: Mapping[int, int],
        edges: Mapping[int, Collection[int]],
        survivors: Collection[int],
    ) -> None:
        """``offers``: rank and text by task; ``holders``: how many hold a share of its secrets, its client included."""
        self._about = job_id, round
        self._attempt = attempt
        self._offers, self._edges = offers, edges
        self._survivors = frozenset(survivors)
        self._need = {task: threshold(holders[task]) for task in edges}
        self._shares: dict[int, dict[int, bytes]] = {task: {} for task in edges}
        here = self._survivors
        self.wanted = [task for task in sorted(edges) if task in here or not here.isdisjoint(edges[task])]
        """The tasks of which a secret is needed: all survivors, and those gone that have masks in common with one."""
        self._found: dict[int, list[tuple[bytes, int]]] = {}
        """What is left in the sum by task, as far as its secret has been put together."""

    def take(self, holder: int, rows: Iterable[tuple[int, str]]) -> None:
        """Take what a survivor reveals. Raises BadMessage for what is no share."""
        for task, text in rows:
            data = from_text(text, 1 + SECRET)
            if task in self._shares and (task == holder or holder in self._edges[task]):
                self._shares[task].setdefault(data[0], data[1:])

    @property
    def complete(self) -> bool:
        """Whether every secret that is needed can be put together."""
        return all(len(self._shares[task]) >= self._need[task] for task in self.wanted)

    @property
    def is_done(self) -> bool:
        """Whether every one of them has been."""
        return len(self._found) == len(self.wanted)

    def step(self, count: int) -> None:
        """Put so many more secrets together, at about 20 ms for each. Raises BadMessage for bad shares."""
        for task in islice((task for task in self.wanted if task not in self._found), count):
            self._found[task] = self._left_of(task)

    def left(self) -> list[tuple[bytes, int]]:
        """Return the keys of the masks in the sum, with their signs there. Raises BadMessage for bad shares."""
        self.step(len(self.wanted))
        return [key for task in self.wanted for key in self._found[task]]

    def _left_of(self, task: int) -> list[tuple[bytes, int]]:
        job_id, round = self._about
        secret = combine(self._shares[task].items(), self._need[task])
        rank, text = self._offers[task]
        about = MaskedTask(job_id, round, task, rank)
        if task in self._survivors:
            return [(self_key(secret, about, self._attempt, task), 1)]
        private = private_key(secret)
        if public_of(private) != read_offer(text, about).mask:
            raise BadMessage(f"the shares of client {rank}'s key are not those that it gave out")
        found = []
        for other in sorted(self._survivors & set(self._edges[task])):
            their = read_offer(self._offers[other][1], MaskedTask(job_id, round, other, self._offers[other][0]))
            key = pair_key(agree(private, their.mask), about, self._attempt, task, other)
            found.append((key, 1 if other < task else -1))
        return found
