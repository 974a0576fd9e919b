"""A cohort of clients that mask, as the scheduler and the servers would have them, without messages."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ps.secure.identity import Lists, ThrowawaySigner, anybody
from ps.secure.masks import apply_masks
from ps.secure.pairwise import MaskedTask, PairwiseClient
from ps.secure.unsealing import Unsealing, holders, mutual
from ps.secure.weights import digest_of


class MaskingCohort:
    """Clients with tasks 1, 2, … in one round, up to the shares that each has of others."""

    def __init__(self, count: int, least: int = 3, lists: Lists = anybody, strangers: int = 0) -> None:
        """The last ``strangers`` of them sign with identities that ``lists`` may not have."""
        self.signers = {task: ThrowawaySigner() for task in range(1, count + 1)}
        self.listed = {signer.public for task, signer in self.signers.items() if task <= count - strangers}
        counts = (lambda public: public in self.listed) if strangers else lists
        self.clients = {
            task: PairwiseClient(MaskedTask("job", 7, task, task - 1), digest_of(7, ()), signer, counts, least)
            for task, signer in self.signers.items()
        }
        self.offers = {task: (task - 1, client.offer()) for task, client in self.clients.items()}
        rows = [(task, rank, text) for task, (rank, text) in self.offers.items()]
        self.bundles = {}
        for task, client in self.clients.items():
            self.bundles[task] = dict(client.shares(4, rows))
        self.edges = mutual(self.bundles)
        for task, near in self.edges.items():
            self.clients[task].take([(other, self.bundles[other][task]) for other in sorted(near)])

    def masked(self, task: int, vector: np.ndarray, offset: int = 0) -> np.ndarray:
        """Return a client's words under its masks."""
        out = vector.copy()
        apply_masks(out, offset, self.clients[task].masks)
        return out

    def unsealing(self, survivors: Collection[int], answering: Collection[int] | None = None) -> Unsealing:
        """Have the survivors sign and reveal, or those of them that answer."""
        chosen = tuple(sorted(survivors))
        signatures = [(task, self.clients[task].consent(chosen)) for task in chosen]
        found = Unsealing("job", 7, 4, self.offers, holders(self.bundles), self.edges, chosen)
        for task in answering if answering is not None else chosen:
            found.take(task, self.clients[task].reveal(signatures))
        return found
