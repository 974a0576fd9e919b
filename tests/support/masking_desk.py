"""MaskingDesk: real clients' conversations about masks with a real MaskingRound, between which somebody may lie."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ps.protocol.messages import Decline, Message, Ok, Unmask
from ps.secure.identity import Lists, ThrowawaySigner
from ps.secure.pairwise import MaskedTask, PairwiseClient
from ps.secure.sums import SumHistory
from ps.secure.weights import digest_of
from ps.server.scheduler.rounds.masking import MaskingRound
from ps.worker.conversation import FederatedConversation, Question
from ps.worker.federated.masked_participation import agree, unmask

Lie = Callable[[int, Message], Message]
"""Makes of what the scheduler says to a task what its client hears."""


def truth(task: int, message: Message) -> Message:
    return message


class MaskingDesk:
    """Clients with tasks 1, 2, …; whoever is in ``signers`` keeps its identity and its ``told`` from desk to desk."""

    def __init__(
        self,
        count: int,
        lie: Lie = truth,
        *,
        least: int = 3,
        settings_least: int = 3,
        signers: Mapping[int, ThrowawaySigner] | None = None,
        told: Mapping[int, SumHistory] | None = None,
        lists: Lists | None = None,
        rounds: Mapping[int, int] | None = None,
        weights: Mapping[int, bytes] | None = None,
        attempt: int = 4,
        scheduler: MaskingRound | None = None,
    ) -> None:
        """``settings_least``: what the scheduler goes by; ``rounds``: what clients take for their round, if not 7;
        ``weights``: the digest of what they begin with, if not that of all."""
        self.lie = lie
        self.signers = signers or {task: ThrowawaySigner() for task in range(1, count + 1)}
        listed = {signer.public for signer in self.signers.values()}
        lists = lists or (lambda public: public in listed)
        self.masks = {
            task: PairwiseClient(
                MaskedTask("job", (rounds or {}).get(task, 7), task, task - 1),
                (weights or {}).get(task, digest_of(7, ())),
                signer,
                lists,
                least,
                (told or {}).get(task),
            )
            for task, signer in self.signers.items()
        }
        self.round = scheduler or MaskingRound("job", settings_least, None)
        self.round.begin(7, attempt, 0.0)
        self.verdicts: dict[int, str] = {}
        self.why: dict[int, str] = {}
        """Why clients gave their tasks back."""
        self.said: list[Message] = []
        """All that clients have said, which whoever runs the scheduler knows."""
        self._talks: dict[int, FederatedConversation[str]] = {}

    def agree(self) -> MaskingDesk:
        """Have all of them agree on masks."""
        for task, masks in self.masks.items():
            self._begin(task, agree(masks, task, 0))
        self.look()
        self.look()
        return self

    def close(self, survivors: Collection[int]) -> MaskingDesk:
        """These are in the sum: tell them so."""
        self.round.close(survivors, 0.0)
        for task in survivors:
            said = self.lie(task, self.round.unmask(task, 1) or Unmask(1, tuple(survivors)))
            assert isinstance(said, Unmask)
            self.tell(task, said)
        self.look(late=bool(self.why))
        self.look(late=bool(self.why))
        return self

    def tell(self, task: int, said: Unmask) -> None:
        """Tell one client who is in the sum."""
        self._begin(task, unmask(self.masks[task], task, 0, said))

    def look(self, *, late: bool = False) -> None:
        """Let the scheduler take its next step. ``late``: it waits for nobody any more."""
        active = self.masks.keys() - self.verdicts.keys()
        for send in self.round.look(active, 1e6 if late else 0.0):
            assert isinstance(send.to, int)
            self._go_on(send.to, self.lie(send.to, send.message))
        while self.round.busy and not self.round.failure:
            self.round.work()
            for send in self.round.look(active, 0.0):
                assert isinstance(send.to, int)
                self._go_on(send.to, self.lie(send.to, send.message))

    def _begin(self, task: int, talk: FederatedConversation[str]) -> None:
        self._talks[task] = talk
        self._go_on(task, None)

    def _go_on(self, task: int, answer: Any) -> None:
        try:
            asked = self._talks[task].send(answer)
        except StopIteration as end:
            if end.value:
                self.verdicts[task] = str(end.value)
            return
        assert isinstance(asked, Question)
        message = asked.make(1, task)
        self.said.append(message)
        if isinstance(message, Decline):
            self.why[task] = message.why
            self.round.lose([task])
            self._go_on(task, Ok(1))
            return
        said = self.round.hear(message, task - 1, 7)  # type: ignore[arg-type]
        if said is not None:
            self._go_on(task, self.lie(task, said))
