"""Messages of secure aggregation: clients and the scheduler about keys, shares and survivors, and with servers about
what is left in the sum. Keys, signatures and sealed shares are texts in base64."""

from __future__ import annotations

from typing import Annotated

from ps.number import MOST_COMBINED
from ps.protocol.messages.base import Message, message
from ps.protocol.ranges import AtMost, Chunk, Count, Member, Number, Prose, Random, Rank, Sign

MOST_NEAR = 1000
"""Neighbours of a client, at most."""
MOST_KEYS = 50_000
"""Masks that are left in one sum, at most."""

KeyText = Annotated[str, AtMost(64)]
SealedText = Annotated[str, AtMost(400)]
Rows = Annotated[tuple[tuple[Number, SealedText], ...], AtMost(MOST_NEAR)]
"""Of or for each task a text."""
Offers = Annotated[tuple[tuple[Number, Rank, SealedText], ...], AtMost(MOST_COMBINED)]
Boxes = Annotated[tuple[tuple[Number, Count, Rank, SealedText], ...], AtMost(MOST_COMBINED)]
"""Sealed seeds: (task, its round, rank, box)."""
Survivors = Annotated[tuple[Number, ...], AtMost(MOST_COMBINED)]
Signatures = Annotated[tuple[tuple[Number, SealedText], ...], AtMost(MOST_COMBINED)]
Keys = Annotated[tuple[tuple[KeyText, Sign], ...], AtMost(MOST_KEYS)]


@message(60, answers=("Cohort", "Submitted"))
class KeyOffer(Message):
    """A client's public keys for one task, signed by its identity."""

    request: Number
    member: Member
    task: Number
    offer: SealedText
    token: Random = 0


@message(61)
class Cohort(Message):
    """All who take part in the attempt at a round: task, rank and offer of each."""

    large = True
    request: Number
    attempt: Count
    offers: Offers


@message(62, answers=("ShareInbox", "Submitted"))
class KeyShares(Message):
    """A client's sealed shares, one for each neighbour that it counts."""

    large = True
    request: Number
    member: Member
    task: Number
    shares: Rows
    token: Random = 0


@message(63)
class ShareInbox(Message):
    """The sealed shares for a client, of those with whom it has masks in common."""

    large = True
    request: Number
    shares: Rows


@message(64)
class Unmask(Message):
    """Instead of a verdict: these tasks are in the sum. Whoever agrees signs them."""

    large = True
    request: Number
    survivors: Survivors


@message(65, answers=("Consents", "Submitted"))
class Consent(Message):
    """A client's signature of the survivors."""

    request: Number
    member: Member
    task: Number
    signature: SealedText
    token: Random = 0


@message(66)
class Consents(Message):
    """The survivors' signatures: whoever finds enough of them good reveals what it holds."""

    large = True
    request: Number
    signatures: Signatures


@message(67, answers=("Submitted",))
class Reveal(Message):
    """Of each share that a client holds one half: of the seed of who is in the sum, of the key of who is not."""

    large = True
    request: Number
    member: Member
    task: Number
    shares: Rows
    token: Random = 0


@message(68)
class Unseal(Message):
    """The keys of the masks that are left in the sum of an attempt, with their signs: servers take them off."""

    large = True
    version: Count
    attempt: Count
    keys: Keys


@message(69, answers=("HelpOrder",))
class HelpRequest(Message):
    """A helper offers a key for which seeds are sealed, and asks of which masks the sum is wanted.

    ``why``: it does not tell that of ``attempt`` at the round ``version``.
    """

    request: Number
    offer: SealedText
    version: Count
    attempt: Count
    why: Prose


@message(77)
class HelpOrder(Message):
    """The sum of these seeds' masks is wanted by the servers, for an attempt at a round; of none, for now.

    ``token`` proves to the servers that the scheduler has asked for it. ``over``: all rounds are done.
    """

    large = True
    request: Number
    version: Count
    attempt: Count
    token: Random
    boxes: Boxes
    over: bool = False


@message(78, answers=("Ok",))
class MaskSum(Message):
    """The sum of the masks of one chunk, as words."""

    payload = True
    request: Number
    version: Count
    attempt: Count
    chunk: Chunk
    token: Random
