"""RequestQueue: what a worker asks of one server: waits to be sent and what is not answered yet."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable

from ps.errors import ServerLost
from ps.protocol.codec import encode
from ps.protocol.messages import Identify, Inquire, Push, Waiting
from ps.protocol.messages.data import NOT_YET
from ps.protocol.transports.channel import ServerChannel
from ps.trace import BEGIN, END, OFF, Trace
from ps.worker.batch import Request
from ps.worker.traffic import Traffic

INQUIRE = 2.0
"""Seconds without progress after which a server is asked what it knows, and between such questions."""
AT_WORK = 10
"""How many times as long a silent server is waited for while the scheduler hears it: it may be at long work."""
ASK = "Can it reach the scheduler? Its log says so, and psctl status whether the scheduler hears it"
MOST_ASKED = 1000
"""Requests that one question is about, at most; the oldest first."""
PATIENCE, LONGEST = 0.005, 0.08
"""Seconds without room in the window after which a server is asked whether others wait for this worker, at first and at
most. Where answers flow there is room sooner."""
MOST_NAMED = 8
"""Workers that a line about a wait names, at most."""


class RequestQueue:
    """One server. At most ``window`` bytes are on their way to it; a single request may be larger.

    What it has and keeps until other workers have come is on its way too, as long as nobody waits for this worker: so
    a server holds little for those who are ahead. Once somebody does, it is not counted, for all would wait for ever
    where each holds back what another waits for.
    """

    def __init__(
        self,
        name: str,
        channel: ServerChannel,
        window: int,
        traffic: Traffic,
        server: int = 0,
        rank: int = 0,
        trace: Trace = OFF,
        identity: Identify | None = None,
    ) -> None:
        """``server`` is its rank and ``rank`` this worker's; both are only told to the trace.

        ``identity``: what the server is told where it does not know whose connection this is, as after a break.
        """
        self.name = name
        self._identity = None if identity is None else encode(identity)
        self.server = server
        self._rank = rank
        self._trace = trace
        self.channel = channel
        self.unsent: list[tuple[int, int, Request]] = []
        """What waits to be sent, as a heap: those about no chunk, then chunk by chunk, each in the order of asking."""
        self.inflight: dict[int, Request] = {}
        self.waits_for: tuple[int, ...] = ()
        """The workers' ranks that the server said it waits for."""
        self.early = False
        """Whether the server said that it has not heard of this worker yet: its news from the scheduler are late."""
        self._window = channel.window or window
        self._incoming = channel.incoming
        self._traffic = traffic
        self._flying = 0
        self._asked_for_room = False
        self._patience = PATIENCE
        self._unheard = 0
        self._unexplained = 0
        self._puzzled = False
        """Whether the last question about the unanswered is unanswered itself."""
        self._unknown = False
        """Whether the server said since that it does not know whose connection this is."""

    def add(self, request: Request) -> None:
        """Queue a request. The first layers' chunks go first, since they are needed first."""
        chunk = request.chunk
        heapq.heappush(self.unsent, (-1 if chunk is None else chunk, request.message.request, request))

    @property
    def about(self) -> str:
        """What is waited for here, for people."""
        return f"{self.name} to hear of this worker from the scheduler" if self.early else self.name

    @property
    def busy(self) -> bool:
        """Whether anything is to be sent or answered."""
        return bool(self.unsent or self.inflight)

    def send_queued(self) -> None:
        """Send what the window allows. Never blocks: what there is no room for stays queued."""
        self.channel.flush()
        unsent = self.unsent
        while unsent and self._has_room():
            request = unsent[0][2]
            if not self.inflight:
                self._unheard = self._unexplained = 0
                self._patience = PATIENCE
            if not self._send(request):
                return
            heapq.heappop(unsent)
            self.inflight[request.message.request] = request
            self._flying += request.cost
            if self._incoming is not None:
                self._incoming.due += request.cost

    def _has_room(self) -> bool:
        return not self._flying or self._flying + self.unsent[0][2].cost <= self._window

    @property
    def patience(self) -> float:
        """Seconds after which to ask for room, if there is still none; endless when there is nothing to ask."""
        return math.inf if self._asked_for_room or not self.unsent or self._has_room() else self._patience

    def ask_for_room(self, member: int) -> None:
        """Ask the server whether anybody waits for what the window holds back."""
        self._asked_for_room = True  # also where there is no room for the question: then ``inquire`` will ask it
        untaken = (number for number, request in self.inflight.items() if not request.taken)
        self.channel.send(encode(Inquire(0, member, tuple(itertools.islice(untaken, MOST_ASKED)))))

    def _send(self, request: Request) -> bool:
        since, message = self._trace.now(), request.message
        if not self.channel.send(encode(message), request.payload, request.region):
            return False
        if self._trace.on and request.chunk is not None:
            clock, size = getattr(message, "clock", -1), request.payload.nbytes if request.payload is not None else -1
            self._trace.add("send", since, clock=clock, chunk=request.chunk, peer=self.server, size=size)
            if isinstance(message, Push):
                self._trace.link(BEGIN, "send", since, self._rank, clock, request.chunk)
        if request.payload is not None:
            self._traffic.bytes_up += request.payload.nbytes
        return True

    def show_landing(self, request: Request, since: int) -> None:
        """Show in the trace, which is on, that an answer about a chunk was taken in, which began then."""
        if request.chunk is None:
            return
        lo, hi = request.region
        asked = request.message
        clock = getattr(asked, "clock", -1)
        self._trace.add("land", since, clock=clock, chunk=request.chunk, peer=self.server, size=hi - lo)
        if isinstance(asked, Push):
            self._trace.link(END, "land", since, self._rank, clock, request.chunk)

    def unknown(self, number: int) -> None:
        """Tell a server that does not know whose connection this is, and what it did not take for that."""
        self._unknown = True
        self.identify(number)

    def identify(self, number: int = 0) -> None:
        """Tell the server again who this is, and what it did not take from somebody it does not know."""
        if self._identity is not None and self.channel.send(self._identity) and number in self.inflight:
            self._send(self.inflight[number])

    def move(self, name: str, channel: ServerChannel) -> None:
        """Go on over another channel, to whoever is this server now: what is not answered is to be sent again."""
        self.name, self.channel, self._incoming = name, channel, channel.incoming
        for request in self.inflight.values():
            request.taken = False
            self.add(request)
        self.inflight.clear()
        self._flying = self._unheard = self._unexplained = 0
        self._asked_for_room = self._puzzled = self._unknown = self.early = False
        self._patience, self.waits_for = PATIENCE, ()

    def heard(self) -> None:
        """Note a sign of life."""
        self._unheard = 0

    def answered(self, number: int) -> Request | None:
        """Take a request off the list of the unanswered; None when it is not on it, as after a repetition."""
        request = self.inflight.pop(number, None)
        if request is not None:
            if not request.taken:
                self._flying -= request.cost
            if self._incoming is not None:
                self._incoming.due -= request.cost
            self._unexplained = 0
            self._puzzled = self._unknown = self.early = False
            if not self.inflight:
                self.waits_for = ()
        return request

    def give_up(self) -> list[Request]:
        """Return what was asked here and is not answered, for another server: this one is gone."""
        left = [self.answered(number) for number in list(self.inflight)]
        unsent, self.unsent = [request for _, _, request in sorted(self.unsent, key=lambda row: row[:2])], []
        return [*(request for request in left if request is not None), *unsent]

    def inquire(self, member: int, limit: float, *, alive: bool = False) -> None:
        """Ask the server what it knows of the unanswered requests. ``alive``: the scheduler says that it lives.

        Raises ServerLost when it has left questions of ``limit`` seconds unanswered, AT_WORK times as many if it is
        alive, or has said for longer than that that it waits for nobody, or other things that are no answer. Questions
        are counted, not seconds, since this process may have stood still.
        """
        if not self.inflight:
            return
        if self._puzzled and not self._unheard:
            self._unexplained += 1
        if self._unheard * INQUIRE >= (AT_WORK * limit if alive else limit):
            why = "The scheduler hears it. Can this host reach it?" if alive else "Is its host up and reachable?"
            raise ServerLost(f"{self.name} has answered nothing for {self._unheard * INQUIRE:.0f} s. {why}")
        if self._unexplained * INQUIRE >= 4 * limit:
            if self.early:
                seconds = self._unexplained * INQUIRE
                raise ServerLost(f"{self.name} has not heard of this worker for {seconds:.0f} s. {ASK}")
            if self._unknown:
                seconds = self._unexplained * INQUIRE
                raise ServerLost(
                    f"{self.name} has not known this worker for {seconds:.0f} s, though it was told. {ASK}"
                )
            seconds, first = self._unexplained * INQUIRE, next(iter(self.inflight.values()))
            raise ServerLost(
                f"{self.name} has {first.message!r} for {seconds:.0f} s and waits for nobody, but is silent"
            )
        self._unheard += 1
        self._puzzled = True
        oldest = tuple(itertools.islice(self.inflight, MOST_ASKED))
        self.channel.connect_again()
        self.identify()  # the connection may be a new one
        self.channel.send(encode(Inquire(0, member, oldest)))

    def _count(self, request: Request, *, taken: bool) -> None:
        """Count a request as on its way, or no more."""
        if request.taken != taken:
            request.taken = taken
            self._flying += -request.cost if taken else request.cost

    def explained(self, waiting: Waiting) -> None:
        """Take the answer to a question: send again what never arrived, remember for whom the rest waits.

        Make room for the rest if others wait for this worker.
        """
        unknown = dict.fromkeys(waiting.unknown)  # each is sent again once, however often it is named
        lost = [self.inflight[number] for number in unknown if number in self.inflight]
        for request in self.inflight.values() if waiting.wanted else lost:
            self._count(request, taken=waiting.wanted and request not in lost)
        for request in lost:
            self._send(request)
        self.waits_for, self.early = waiting.ranks, waiting.clock == NOT_YET
        if waiting.ranks or self._puzzled:
            self._unexplained = 0 if waiting.ranks else self._unexplained + 1
        self._puzzled = self._unknown = False
        self._asked_for_room = False
        self._patience = 0.0 if waiting.wanted else min(max(PATIENCE, 2 * self._patience), LONGEST)


def waited_for(queues: Iterable[RequestQueue]) -> tuple[int, ...]:
    """Return the ranks of the workers that servers say they wait for."""
    return tuple(sorted({rank for queue in queues for rank in queue.waits_for}))


def awaited(queues: Iterable[RequestQueue]) -> str:
    """Return whom a worker waits for, for people: others, or else servers."""
    queues = list(queues)
    ranks = waited_for(queues)
    names = [f"worker {rank}" for rank in ranks[:MOST_NAMED]]
    if len(ranks) > MOST_NAMED:
        names.append(f"{len(ranks) - MOST_NAMED} more")
    return ", ".join(names or [queue.about for queue in queues if queue.busy])
