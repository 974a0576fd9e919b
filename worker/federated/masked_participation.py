"""What a client says to the others, through the scheduler, before it masks and when the masks are taken off.

Generators as in ``ps.worker.conversation``. A client that will not go on, because what it would tell is too much, gives
its task back and says why.
"""

from __future__ import annotations

import logging

from ps.errors import BadMessage
from ps.protocol.messages import (
    Cohort,
    Consent,
    Consents,
    Decline,
    KeyOffer,
    KeyShares,
    Message,
    Ok,
    Reveal,
    ShareInbox,
    Submitted,
    Unmask,
)
from ps.secure.helped import Masks
from ps.secure.pairwise import PairwiseClient
from ps.worker.conversation import FederatedConversation, Question

log = logging.getLogger("ps.worker")

DECLINED = "declined"


def agree(masks: Masks, task: int, token: int) -> FederatedConversation[str]:
    """Have masks in common with others; return nothing, or the verdict where it came to nothing."""
    try:
        return (yield from _agree(masks, task, token))
    except BadMessage as error:  # also of what others sent: what cannot be checked is not masked with
        return (yield from _decline(task, error))


def _agree(masks: Masks, task: int, token: int) -> FederatedConversation[str]:
    offer = masks.offer()
    whose = "the others' keys" if isinstance(masks, PairwiseClient) else "the key of a helper (psctl helper)"
    answer: Message = yield Question(
        lambda request, member: KeyOffer(request, member, task, offer, token), Message, whose
    )
    if not isinstance(answer, Cohort):
        return _verdict(answer)
    shares = masks.shares(answer.attempt, answer.offers)
    answer = yield Question(
        lambda request, member: KeyShares(request, member, task, shares, token), Message, "the others' shares"
    )
    if not isinstance(answer, ShareInbox):
        return _verdict(answer)
    masks.take(answer.shares)
    return ""


def unmask(masks: PairwiseClient, task: int, token: int, asked: Unmask) -> FederatedConversation[str]:
    """Consent to who is in the sum, and reveal what may be told; return the verdict."""
    try:
        return (yield from _unmask(masks, task, token, asked))
    except BadMessage as error:
        return (yield from _decline(task, error))


def _unmask(masks: PairwiseClient, task: int, token: int, asked: Unmask) -> FederatedConversation[str]:
    signature = masks.consent(asked.survivors)
    if masks.warning:
        log.warning("%s", masks.warning)
    answer: Message = yield Question(
        lambda request, member: Consent(request, member, task, signature, token), Message, "who is in the sum"
    )
    if not isinstance(answer, Consents):
        return _verdict(answer)
    shares = masks.reveal(answer.signatures)
    answer = yield Question(
        lambda request, member: Reveal(request, member, task, shares, token), Message, "the masks to be taken off"
    )
    return _verdict(answer)


def _verdict(answer: Message) -> str:
    if isinstance(answer, Submitted):
        return answer.verdict
    raise BadMessage(f"the scheduler answered {answer!r} about masks")


def _decline(task: int, error: BadMessage) -> FederatedConversation[str]:
    log.warning("this client gives its task back: %s", error)
    why = str(error)[:200]
    yield Question(lambda request, member: Decline(request, member, task, why), Ok, "leave to give a task back")
    return DECLINED
