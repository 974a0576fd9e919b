"""Runner: has a worker's conversations over its session's connections, and goes on with those that were interrupted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from ps.protocol.messages import Message
from ps.worker.batch import Batch
from ps.worker.conversation import Asked, Calls, Conversation, Interrupted, Question
from ps.worker.landing import Landing
from ps.worker.session import Session

Answered = TypeVar("Answered")


class Runner:
    """One conversation at a time. What was begun is ended before anything else is."""

    def __init__(self, session: Session, landing: Callable[[Calls], Landing]) -> None:
        """``landing`` returns what takes the answers' weights in."""
        self._session = session
        self._landing = landing
        self._current: Conversation[None] | None = None
        self.under_way = Batch()
        """The latest contribution."""
        self._resume: Batch | tuple[Question, int] | None = None
        """What the current conversation waits for, unless an interrupt has made it of no use."""
        self._last = False
        """Whether nothing follows then, unless that came too late."""

    def run(self, conversation: Conversation[Answered]) -> Answered:
        """Have a conversation of which nothing is left where it is interrupted; return what it returns."""
        try:
            asked = next(conversation)
            while True:
                if isinstance(asked, Question):
                    asked = conversation.send(self._ask(asked, self._session.number()))
                    continue
                batch = self.submit(asked)
                self._session.exchange.wait(batch)
                asked = conversation.send(batch.answers)
        except StopIteration as end:
            answered: Answered = end.value
            return answered

    def submit(self, asked: Calls, into: Batch | None = None) -> Batch:
        """Queue requests, in a batch that has some of them already if there is one."""
        batch = Batch(asked.label, self._landing(asked)) if into is None else into
        self._session.exchange.submit_all(batch, asked.calls)
        return batch

    @property
    def busy(self) -> bool:
        """Whether a conversation is not at its end."""
        return self._current is not None

    @property
    def interrupted(self) -> bool:
        """Whether there is more to do for it than to wait for what may be under way while the script goes on."""
        return self._current is not None and not (self._last and self._resume is self.under_way)

    def begin(
        self, conversation: Conversation[None], early: Batch | None = None, *, wait: bool, behind: bool = False
    ) -> None:
        """Begin a conversation; return when it ends, or, without ``wait``, when what is left may be under way.

        ``early`` is the batch that a part of what it asks first was sent with. With ``behind`` it is gone on with by
        ``turn``, whatever is left. Needs ``finish`` before.
        """
        self._current = conversation
        self._go_on(partial(next, conversation), early, wait=wait, behind=behind)

    def turn(self) -> None:
        """Go on with what is under way as far as it is answered."""
        while self._current is not None and isinstance(batch := self._resume, Batch):
            if not batch.done and batch.error is None:
                return
            self._session.exchange.wait(batch)
            self._go_on(partial(self._current.send, batch.answers), None, wait=False, behind=True)

    def wait(self, also: Callable[[], bool]) -> None:
        """Return when more is answered than was, or ``also`` says so: then there may be something for ``turn``."""
        if isinstance(batch := self._resume, Batch):
            self._session.exchange.wait_or(batch, also)

    def finish(self) -> None:
        """Return when nothing is under way. Raises what went wrong with it, and again the next time."""
        current, resume = self._current, self._resume
        if current is None:
            return
        if resume is None:
            move: Callable[[], Asked] = partial(current.throw, Interrupted())
        elif isinstance(resume, Batch):
            self._session.exchange.wait(resume)
            move = partial(current.send, resume.answers)
        else:
            move = partial(current.send, self._ask(*resume))
        self._go_on(move, None, wait=True)

    def settle(self) -> None:
        """Return when the latest contribution was answered, and ended if it is not. Raises as ``finish`` does."""
        if self.interrupted and self._resume is self.under_way:
            self.finish()
        self._session.exchange.wait(self.under_way)

    def _ask(self, question: Question, number: int) -> Message:
        return self._session.ask(question.make, question.kind, question.waiting, number)

    def _go_on(self, move: Callable[[], Asked], early: Batch | None, *, wait: bool, behind: bool = False) -> None:
        """Go on with the current conversation from its next move."""
        exchange = self._session.exchange
        while True:
            current, self._resume = self._current, None
            try:
                asked = move()
            except StopIteration:
                self._current = None
                return
            except BaseException:  # then it is over as well
                self._current = None
                raise
            assert current is not None
            if isinstance(asked, Question):
                number = self._session.number()
                self._resume = (asked, number) if asked.resumable else None
                move = partial(current.send, self._ask(asked, number))
                continue
            batch, early = self.submit(asked, early), None
            self._resume, self._last = batch if asked.resumable else None, asked.last
            if asked.contributes:
                self.under_way = batch
            if (asked.last and not wait) or (behind and asked.resumable):
                return
            exchange.wait(batch)
            move = partial(current.send, batch.answers)
