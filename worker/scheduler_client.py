"""SchedulerClient: a worker's conversation with the scheduler, on a thread of its own.

The thread keeps the heartbeat going while the script computes, and carries the few requests that wait for an
answer. Whatever ends this worker's membership is kept and raised by ``check`` on the script's thread.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import zmq

from ps import about
from ps.errors import BadMessage, ConnectTimeout, PeerLost, ProtocolError, PSError
from ps.protocol.codec import decode, encode
from ps.protocol.dial import Dial
from ps.protocol.error_codes import failure, refusal
from ps.protocol.incoming import Incoming
from ps.protocol.membership import Membership
from ps.protocol.messages import CheckpointOrder, Error, Identify, Leave, Message, Ok, Seat, View
from ps.protocol.sockets import Socket, open_socket
from ps.worker.cut_plan import CutPlan
from ps.worker.interrupt import HOLD
from ps.worker.stop_point import StopPoint

log = logging.getLogger("ps.worker")

Answer = TypeVar("Answer", bound=Message)

RETRY = 2.0
"""Seconds after which an unanswered request is sent again; all requests may be repeated."""
TICK = 0.1
"""Seconds between looks at the time."""
TELL = 5.0
"""Seconds between lines about a wait."""
SILENT = 5.0
"""Seconds of silence after which nobody waits for the scheduler to hear that training is to end."""
LEAST, MOST = 0.5, 5.0
"""Seconds for which a goodbye is said again, at least and at most."""
MOST_TAKEN = 1000
"""Messages that are taken before the heartbeat is looked after again."""
MOST_QUEUED = 16
"""Messages kept for a scheduler that cannot be reached; it has no use for old heartbeats."""


class SchedulerClient:
    """Keeps a Membership going. ``report`` is asked for before each heartbeat, on the thread here."""

    def __init__(
        self, context: zmq.Context[Socket], membership: Membership, report: Callable[[], dict[str, Any]]
    ) -> None:
        self._membership = membership
        self._report = report
        self.stop_point = StopPoint()
        self.cut_plan = CutPlan()
        self.tend: Callable[[], None] = lambda: None
        """Called now and then while a request waits for its answer."""
        membership.told, membership.more = self.stop_point.hear, self.stop_point.say
        self.waiting: tuple[str, float] | None = None
        """What the script waits for, and since when (monotonic); None while it does not. Any thread may ask."""
        self._failure: PSError | None = None
        self._leaving = False
        self._numbers = itertools.count(1)
        self.answers: dict[int, queue.Queue[Message]] = {}  # a SimpleQueue may wait for ever where a signal comes
        self._ringing = threading.Lock()
        self._outbox: queue.SimpleQueue[tuple[int, bytes | None]] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._dealer = open_socket(context, zmq.DEALER)
        self._dealer.setsockopt(zmq.SNDHWM, MOST_QUEUED)
        self._incoming = Incoming(self._dealer, f"the scheduler at {membership.scheduler}")
        self._watched: list[Incoming] = []
        self._dial = Dial(self._dealer, membership.scheduler, time.monotonic())
        self._bell = open_socket(context, zmq.PAIR)
        self._bell.bind(f"inproc://scheduler-client-{id(self)}")
        self._ring = open_socket(context, zmq.PAIR)
        self._ring.connect(f"inproc://scheduler-client-{id(self)}")
        self._thread = threading.Thread(target=self._run, name="ps-scheduler-client", daemon=True)
        self._thread.start()

    # The script's side

    @property
    def member(self) -> int:
        """This worker's id; 0 before WELCOME."""
        return self._membership.member

    @property
    def identity(self) -> Identify | None:
        """What this worker says on a new connection; None while it joins, for the first time or anew."""
        return self._membership.identity

    @property
    def rank(self) -> int:
        """This worker's rank; -1 before WELCOME."""
        identity = self.identity
        return identity.rank if identity else -1

    @property
    def seat(self) -> Seat | None:
        """The place of another that this worker has taken, if it has."""
        return self._membership.seat

    @property
    def view(self) -> View | None:
        """The latest view."""
        return self._membership.view

    @property
    def missing(self) -> int:
        """How many workers lack of the fewest that the job trains with."""
        quorum = self._membership.quorum
        return quorum.missing if quorum else 0

    @property
    def silence(self) -> float:
        """Seconds since the scheduler was last heard; endless when it is one that does not know this job."""
        return math.inf if self._membership.unknown else self._membership.silence(time.monotonic())

    def check(self) -> None:
        """Raise what has ended this worker's membership, if anything has."""
        if self._failure is not None:
            raise self._failure

    def wait_until(
        self, ready: Callable[[View], bool], notice: Callable[[View | None, float], str], limit: float
    ) -> View:
        """Return the first view for which ``ready`` holds; log ``notice`` now and then while waiting.

        Raises ConnectTimeout when the scheduler does not answer, falls silent for ``limit`` seconds, or gives the
        job up.
        """
        began = told = time.monotonic()
        with self._says("the other members of the job to come"), self._changed:
            while True:
                self.check()
                view = self.view
                if view is not None and ready(view):
                    return view
                if self.member and self.silence > limit:
                    address = self._membership.scheduler
                    raise ConnectTimeout(
                        f"the scheduler at {address} answered once, but no more for {limit:g} s, and the job is not "
                        f"complete. Is it up? Try: psctl ping {address}"
                    )
                HOLD.check()
                self._changed.wait(TICK)
                now = time.monotonic()
                if now - told >= TELL:
                    told = now
                    log.warning("%s", notice(view, now - began))

    def stop(self, clock: int, reason: str) -> bool:
        """Ask for the end of training; return whether that is decided; not if the scheduler is silent.

        Until then this worker does not go on, so that in sync mode others have begun no more than the step after.
        """
        point = self.stop_point
        message = point.wish(clock, reason)
        self.send(self.member, encode(dataclasses.replace(message, member=self.member)))
        with self._says("all to hear that training is to end"):
            self._until(lambda: point.end is not None or self.silence > SILENT)
        return point.end is not None

    def await_stop(self, clock: int, limit: float) -> bool:
        """Wait until it is decided where training ends; return whether the step after ``clock`` may be begun.

        Raises PeerLost when the scheduler, which decides it, is silent for ``limit`` seconds.
        """
        point, began, told = self.stop_point, time.monotonic(), 0
        while (verdict := point.begin(clock)) is None:
            waited = time.monotonic() - began
            if waited > limit and self.silence > limit:
                raise PeerLost(f"waited {limit:g} s to hear where training ends, but the scheduler is silent")
            if waited // TELL > told:
                told += 1
                log.warning(
                    "waiting %.0f s to hear where training ends, as all workers are asked how far they are", waited
                )
            with self._says("word of where training ends", began):
                self._until(lambda: point.end is not None, TICK)
        return verdict

    def await_quorum(self, limit: float) -> None:
        """Wait while there are too few workers to take a step, unless training is to end.

        Raises what ends the job when none come, and PeerLost when the scheduler is silent for ``limit`` seconds.
        """
        began, told = time.monotonic(), 0
        while (missing := self.missing) and not self.stop_point.asked:
            what = f"{missing} more worker{'' if missing == 1 else 's'}, as fewer than --min-workers are here"
            waited = time.monotonic() - began
            if waited > limit and self.silence > limit:
                raise PeerLost(f"waited {limit:g} s for {what}, and the scheduler is silent")
            if waited // TELL > told:
                told += 1
                log.warning("waiting %.0f s for %s", waited, what)
            with self._says(what, began):
                self._until(lambda: not self.missing, TICK)

    @contextlib.contextmanager
    def _says(self, what: str, since: float | None = None) -> Iterator[None]:
        """Have the status show what is waited for."""
        before, self.waiting = self.waiting, (what, time.monotonic() if since is None else since)
        try:
            yield
        finally:
            self.waiting = before

    def _until(self, ready: Callable[[], bool], limit: float = math.inf) -> None:
        """Return once something is so, or after so many seconds."""
        until = time.monotonic() + limit
        with self._changed:
            while not ready() and time.monotonic() < until:
                self.check()
                HOLD.check()
                self._changed.wait(TICK)

    def watch(self, incoming: list[Incoming]) -> None:
        """From now on look also at what comes on these other sockets, while the script computes."""
        self._watched = incoming

    def number(self) -> int:
        """Return a new number for a request."""
        return next(self._numbers)

    def request(
        self,
        make: Callable[[int, int], Message],
        kind: type[Answer],
        waiting: str,
        limit: float,
        at_most: float = math.inf,
        number: int | None = None,
    ) -> Answer:
        """Send a request, again and again, until it is answered; ``make`` takes its number and this member's id.

        Raises what the scheduler answers instead, what ends this worker meanwhile, or PeerLost when the scheduler
        is silent for ``limit`` seconds, or does not answer this for ``at_most``.
        """
        number = self.number() if number is None else number
        answers = self.answers[number] = queue.Queue()
        sent, began, told, spoken = -math.inf, time.monotonic(), 0, (0, 0)
        before, self.waiting = self.waiting, (waiting, began)
        try:
            while True:
                self.check()
                HOLD.check()
                self.tend()
                now = time.monotonic()
                if now - began > at_most or (now - began > limit and self.silence > limit):
                    address = self._membership.scheduler
                    raise PeerLost(f"waited {limit:g} s for {waiting}, but the scheduler at {address} is silent")
                member, known = self.member, self._membership.known
                if member and (now - sent >= RETRY or (member, known) != spoken):
                    sent, spoken = now, (member, known)
                    self.send(member, encode(make(number, member)))
                try:
                    answer = answers.get(timeout=TICK)
                except queue.Empty:
                    if (now - began) // TELL > told:
                        told += 1
                        log.warning("waiting %.0f s for %s", now - began, waiting)
                    continue
                if isinstance(answer, Error):
                    raise refusal(answer)
                if not isinstance(answer, kind):
                    raise BadMessage(f"the scheduler answered {answer!r}; expected {kind.__name__}")
                return answer
        finally:
            self.waiting = before
            del self.answers[number]

    def leave(self, report: dict[str, Any]) -> None:
        """Say goodbye until it is heard, and close; never raises PSError.

        A goodbye that is lost is a death to those who wait for it. It is said for no longer than the time after which
        the scheduler declares the silent dead in any case.
        """
        welcome, self._leaving = self._membership.welcome, True
        if welcome is not None and self._failure is None:
            patience = round(max(LEAST, min(welcome.heartbeat_timeout, MOST) - self.silence), 1)
            try:
                self.request(
                    lambda number, member: Leave(number, member, report),
                    Ok,
                    "the scheduler to hear this worker's goodbye",
                    patience,
                    at_most=patience,
                )
            except PSError as error:
                log.warning("%s", error)
        self.close()

    def close(self, timeout: float = 2.0) -> None:
        """End the thread; never raises, never takes longer than ``timeout``."""
        self.send(0, None)
        self._thread.join(timeout)
        self._ring.close()

    def send(self, member: int, header: bytes | None) -> None:
        """Have the thread send a message that this process says as ``member``; nothing ends the thread."""
        self._outbox.put((member, header))
        with contextlib.suppress(zmq.ZMQError), self._ringing:
            self._ring.send(b"", zmq.NOBLOCK)

    # The thread's side

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._bell, zmq.POLLIN)
        try:
            while self._turn(poller):
                pass
            self._dealer.setsockopt(zmq.LINGER, 500)
        except PSError as error:
            self._fail(error)
        except Exception as error:  # a bug must not look like a silent scheduler
            log.exception("the connection to the scheduler broke")
            self._fail(PSError(f"the connection to the scheduler broke: {error!r}"))
        finally:
            self._incoming.close()
            self._dealer.close()
            self._bell.close()

    def _turn(self, poller: zmq.Poller) -> bool:
        """Do one round; return whether there is another."""
        now = time.monotonic()
        membership = self._membership
        membership.report = {**self._report(), **about.vitals()}
        if (refusal := self._dial.refusal(self._incoming, joined=membership.welcome is not None)) is not None:
            raise refusal
        if membership.welcome is None and not self._leaving and (trouble := self._dial.again(now)):
            log.warning("%s", membership.waits_for_scheduler(trouble))
        for message in () if self._leaving else [*membership.tick(now), *self.cut_plan.say(self.member)]:
            self._out(encode(message))
        if notice := membership.silence_notice(now):
            log.warning("%s", notice)
        poller.poll(int(TICK * 1000))
        self._incoming.look()
        for incoming in self._watched:
            incoming.look()
            if not self._leaving and (refusal := incoming.refusal()) is not None:
                raise refusal
        with contextlib.suppress(zmq.Again):
            while True:
                self._bell.recv(zmq.NOBLOCK)
        while not self._outbox.empty():
            member, header = self._outbox.get()
            if header is None:
                return False
            if member == self.member:  # not of the one that this process was before it was declared dead
                self._out(header)
        with contextlib.suppress(zmq.Again):
            for _ in range(MOST_TAKEN):
                self._take(self._read(self._incoming.receive()))
        return True

    def _out(self, header: bytes) -> None:
        with contextlib.suppress(zmq.Again):
            self._dealer.send(header, zmq.NOBLOCK)

    def _read(self, header: bytes) -> Message:
        try:
            message: Message = decode(header)
        except ProtocolError as error:
            raise type(error)(f"the scheduler at {self._membership.scheduler}: {error}") from None
        return message

    def _take(self, message: Message) -> None:
        if isinstance(message, CheckpointOrder):
            self.cut_plan.hear(message)
        answers = self.answers.get(getattr(message, "request", 0))
        about_all = isinstance(message, Error) and self._membership.mends(message)
        if answers is not None and not about_all:
            self._membership.heard(time.monotonic())
            answers.put(message)
            return
        self._membership.receive(message, time.monotonic())
        view = self.view
        if view is not None and view.phase == "failed":
            self._out(encode(Leave(0, self.member, {**self._membership.report, "failure": "the job failed"})))
            self._dealer.setsockopt(zmq.LINGER, 500)
            raise failure(view)
        with self._changed:
            self._changed.notify_all()

    def _fail(self, error: PSError) -> None:
        self._failure = error
        with self._changed:
            self._changed.notify_all()
