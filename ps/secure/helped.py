"""Masks that a second party knows: it is told a seed for each task, sealed, and tells the sum of some of them, once.

One message for each client, and any number of drop-outs. Servers and helper together could take the masks off a single
delta; either alone learns nothing of one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ps.errors import BadMessage
from ps.secure.channel import KEY_BYTES, agree, from_text, private_key, public_of, seal, to_text, unseal
from ps.secure.identity import PUBLIC, SIGNATURE, Lists, Signer, signed
from ps.secure.masks import derive
from ps.secure.pairwise import MaskedTask, PairwiseClient, WillNot
from ps.secure.sharing import SECRET
from ps.secure.sums import FEWEST, TOO_FEW, SumHistory
from ps.secure.weights import DIGEST, version_in

SEED = 32
_BOX = SEED + 16
MOST_VERSIONS = 1000
"""Versions of the weights whose digest a helper remembers."""


def _helper_text(job_id: str, public: bytes) -> bytes:
    return f"paramserver helper {job_id} ".encode() + public


def _box_text(about: MaskedTask, said: bytes) -> bytes:
    return f"paramserver seed {about.job_id} {about.round} {about.task} {about.rank} ".encode() + said


def _mask_key(seed: bytes, job_id: str, round: int, task: int) -> bytes:
    return derive(seed, "helper", job_id, round, task)


class HelpedClient:
    """One client's masks for one task. It is asked as a ``PairwiseClient`` is, but never again once it has uploaded."""

    def __init__(self, about: MaskedTask, weights: bytes, signer: Signer, helpers: Lists) -> None:
        """``weights``: the digest of what this client begins with; ``helpers``: whom it takes for one."""
        self._about, self._weights, self._signer, self._helpers = about, weights, signer, helpers
        self._seed = os.urandom(SEED)

    def offer(self) -> str:
        """Return nothing: it is the helper that offers a key."""
        return ""

    def shares(self, attempt: int, cohort: Sequence[tuple[int, int, str]]) -> tuple[tuple[int, str], ...]:
        """Take the helper's offer; return the seed, sealed for it. Raises WillNot for a helper that is not listed."""
        text = cohort[0][2] if len(cohort) == 1 else ""
        data = from_text(text, PUBLIC + KEY_BYTES + SIGNATURE)
        identity, public = data[:PUBLIC], data[PUBLIC:-SIGNATURE]
        if not signed(identity, data[-SIGNATURE:], _helper_text(self._about.job_id, public)):
            raise WillNot("the helper's key is not signed by the identity that is named with it, for this job")
        if not self._helpers(identity):
            raise WillNot("the helper is none that this client lists (psctl keys add)")
        ephemeral = private_key(os.urandom(SECRET))
        box = seal(
            agree(ephemeral, public), self._seed, "seed", self._about.job_id, self._about.round, self._about.task
        )
        said = public_of(ephemeral) + box + self._weights
        return ((0, to_text(self._signer.public + said + self._signer.sign(_box_text(self._about, said)))),)

    def take(self, inbox: Sequence[tuple[int, str]]) -> None:
        """Nothing comes."""

    @property
    def masks(self) -> list[tuple[bytes, int]]:
        """The key of this client's mask."""
        return [(_mask_key(self._seed, self._about.job_id, self._about.round, self._about.task), 1)]


Masks = PairwiseClient | HelpedClient
"""One client's part in the masks of one task."""


class SumOfMasks:
    """The helper's decisions: which sums of masks it tells. What it is never asked for is a mask."""

    def __init__(self, job_id: str, signer: Signer, lists: Lists, least: int, *, steady: bool = True) -> None:
        """``lists``: the clients that count, by the helper's own list; ``least``: so many must be in a sum; ``steady``:
        all in a sum begin with the weights of its round.
        """
        self._steady = steady
        self._job_id, self._signer, self._lists = job_id, signer, lists
        self._least = max(FEWEST, least)
        self._private = private_key(os.urandom(SECRET))
        self._told: dict[int, frozenset[int]] = {}
        """By task, the sum that it was in."""
        self._sums = SumHistory()
        self._weights: dict[int, bytes] = {}
        """By version, the digest of what clients in the sums that were told began with."""

    def offer(self) -> str:
        """Return the public key that seeds are sealed for, signed. It is for this job, and this process, alone."""
        public = public_of(self._private)
        return to_text(self._signer.public + public + self._signer.sign(_helper_text(self._job_id, public)))

    def _compare(self, begun: dict[int, bytes], weights: bytes, round: int, rank: int) -> None:
        version = version_in(weights)
        if version > round:
            raise WillNot(f"client {rank} begins with version {version} of the weights in round {round}")
        if begun.setdefault(round if self._steady else version, weights) != weights:
            raise WillNot(
                f"client {rank} begins round {round} with other weights than another one, and would be seen in the "
                f"sum: a server gives out different ones, or one of the two lies"
            )

    def keys(self, round: int, boxes: Sequence[tuple[int, int, int, str]]) -> list[tuple[bytes, int]]:
        """Return the keys whose masks are to be added up, of boxes as (task, its round, rank, text).

        ``round``: that of the sum. Raises WillNot, with the reason, for a sum that would say too much; BadMessage for
        boxes that cannot be opened.
        """
        chosen = frozenset(task for task, *_ in boxes)
        if len(chosen) != len(boxes):
            raise WillNot("a task that is in the sum twice")
        overlap = {self._told[task] for task in chosen & self._told.keys()}
        if overlap and overlap != {chosen}:
            raise WillNot("a sum that overlaps one that was told already: the two would tell of single clients")
        identities: set[bytes] = set()
        begun = dict(self._weights)
        found = []
        for task, of_round, rank, text in boxes:
            about = MaskedTask(self._job_id, of_round, task, rank)
            data = from_text(text, PUBLIC + KEY_BYTES + _BOX + DIGEST + SIGNATURE)
            identity, said = data[:PUBLIC], data[PUBLIC:-SIGNATURE]
            public, box, weights = said[:KEY_BYTES], said[KEY_BYTES:-DIGEST], said[-DIGEST:]
            if not signed(identity, data[-SIGNATURE:], _box_text(about, said)):
                raise BadMessage(f"the seed of task {task} is not signed by the identity that is named with it")
            if self._lists(identity):
                identities.add(identity)
                self._compare(begun, weights, round, rank)
            seed = unseal(agree(self._private, public), box, "seed", self._job_id, of_round, task)
            found.append((_mask_key(seed, self._job_id, of_round, task), 1))
        if len(identities) < FEWEST:
            raise WillNot(f"{len(identities)} clients that this helper lists are in the sum; {TOO_FEW}")
        if len(identities) < self._least:
            raise WillNot(f"{len(identities)} clients that this helper lists are in the sum; it wants {self._least}")
        if not overlap and (why := self._sums.refusal(round, identities)):
            raise WillNot(why)
        self._sums.note(round, identities)
        self._weights = dict(sorted(begun.items())[-MOST_VERSIONS:])
        self._told |= dict.fromkeys(chosen, chosen)
        return found
