"""Engine: the lives of all clients in virtual time, event by event, against the real scheduler and servers.

A client polls, is told to wait or assigned a task, pulls the weights, trains, uploads chunk after chunk, submits, and
polls again once it knows the verdict. One that drops out says nothing more: after the heartbeat time-out it counts as
gone, and comes back when its traces have it so. Training itself happens in the pool, and costs no virtual time but
what the traces say. Nothing here looks at a real clock, so that the same seed gives the same history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from ps.errors import Refused, StateError
from ps.protocol.messages import (
    Assign,
    Error,
    Later,
    Message,
    Poll,
    Stored,
    Submit,
    Submitted,
    Upload,
    Wait,
)
from ps.simulate.agenda import Agenda, Event
from ps.simulate.contract import Federation, Trainer
from ps.simulate.recipe import Recipe
from ps.simulate.tally import Tally
from ps.simulate.task import Task
from ps.simulate.traces import Traces
from ps.simulate.visit import Visit
from ps.xp import HostArray

PATIENCE = 30 * 86400.0
"""Virtual seconds without a published round after which a simulation is given up."""

STILL = 10_000
"""Events, beside a thousand for each client, in which neither a virtual second passes nor a round is published, after
which it is clear that none ever will."""

AGAIN = 1.0
"""Seconds after which a client comes back whose upload was turned down."""

Published = Callable[[int, float, HostArray], bool]
"""``published(version, now, weights)`` looks at each version, the first included; True ends the simulation."""


class Engine:
    """Lets every client live until all rounds are published."""

    def __init__(
        self,
        house: Federation,
        pool: Trainer,
        traces: Traces,
        recipe: Recipe,
        sizes: Sequence[int],
        published: Published = lambda version, now, weights: False,
        heartbeat: float = 10.0,
    ) -> None:
        """``sizes``: each client's number of examples. ``heartbeat``: seconds until a silent one counts as gone."""
        self.now = 0.0
        self.tally = Tally.of(len(sizes))
        self._house, self._pool, self._traces = house, pool, traces
        self._recipe, self._sizes, self._published = recipe, sizes, published
        self._heartbeat = heartbeat
        self._agenda = Agenda()
        self._visits = [Visit(client) for client in range(len(sizes))]
        self._clients: dict[int, int] = {}
        self._ticket = 0
        self._version = -1
        self._since = 0.0
        self._moved, self._events = 0.0, 0
        """When a virtual second had passed or a round was published, the last time, and the events since."""
        self._tick_at, self._ticked = math.inf, -math.inf
        self._done = False
        self._happen: Mapping[str, Callable[[Visit, Event], None]] = {
            "come": self._come,
            "leave": self._leave,
            "trained": self._trained,
            "uploaded": self._uploaded,
            "vanish": self._vanish,
        }

    def run(self) -> None:
        """Run to the end, once.

        StateError when no round is published any more, PeerLost when the job fails or a process is gone.
        """
        for visit in self._visits:  # the job begins when all its clients were there once
            self._join(visit)
        for visit in self._visits:
            self._agenda.add(0.0, "come", visit.client, visit.ticket)
        self._listen()
        while not self._done:
            if not len(self._agenda):
                self._agenda.add(self.now + AGAIN, "tick")
                self._tick_at = self.now + AGAIN
            event = self._agenda.next()
            self._pass(event.time)
            if self.now - self._since > PATIENCE:
                raise StateError(
                    f"round {self._version} was not published in {PATIENCE / 86400:g} virtual days: are enough clients "
                    f"there, and for long enough? See --availability, --dropout and --min-clients"
                )
            if event.what == "tick":
                self._tick(event)
            else:
                visit = self._visits[event.client]
                if event.ticket != visit.ticket:
                    continue
                self._happen[event.what](visit, event)
            self._listen()

    def _pass(self, time: float) -> None:
        """Let it be that time; StateError where time does not pass, or no time follows."""
        if not math.isfinite(time):
            raise StateError(f"round {self._version} never ends: no client is there any more. See --availability")
        self._events += 1
        if time >= self._moved + 1:
            self._moved, self._events = time, 0
        elif self._events > STILL + 1000 * len(self._visits) * len(self._house.chunks):
            raise StateError(
                f"round {self._version} never ends: virtual time stands still at {time:g} s. See --availability"
            )
        self.now = time

    # What happens

    def _come(self, visit: Visit, event: Event) -> None:
        """A client that is on polls; one that is not leaves, and comes when it is."""
        span = self._traces.span(visit.client, self.now)
        ticket = self._turn(visit)
        if not span.on:
            self._depart(visit)
            self._agenda.add(span.until, "come", visit.client, ticket)
            return
        if not visit.member:
            self._join(visit)
        self.tally.polls += 1
        self._house.tell(visit.member, Poll(ticket, visit.member, visit.version, {}), self.now)

    def _assigned(self, visit: Visit, message: Assign) -> None:
        """A client has a task: it is given to the pool, unless the client drops out before it would be trained."""
        client = visit.client
        ticket = self._turn(visit)
        pace, span = self._traces.pace(client), self._traces.span(client, self.now)
        nbytes = self._house.layout.nbytes
        pulled = self.now + nbytes / pace.down
        due = pulled + self._recipe.local_steps(self._sizes[client]) * pace.seconds_per_step
        ends = span.until if span.on else self.now
        after = self._traces.span(client, ends) if ends < math.inf else span
        visit.back = ends if after.on else after.until
        if not (due < math.inf or ends < math.inf):
            raise StateError(
                f"round {self._version} never ends: client {client} needs {due:g} s. See --speed, --bandwidth"
            )
        share = self._traces.gives_up(client, ticket)
        if share is not None:
            gone = self.now + share * (due + nbytes / pace.up - self.now)
            if gone < ends:
                ends, visit.back = gone, max(gone + AGAIN, self.now + message.seconds)
        visit.task, visit.round, visit.version = message.task, message.round, self._version
        if pulled < ends:
            self.tally.down[client] += nbytes
        if ends < math.inf:
            self._agenda.add(ends, "vanish", client, ticket)
        if due < ends:
            visit.order = ticket
            self._pool.give(Task(client, ticket, message.round, self._version, message.evaluate), due)
            self._agenda.add(due, "trained", client, ticket)

    def _trained(self, visit: Visit, event: Event) -> None:
        """A client has its delta, and uploads it chunk after chunk."""
        visit.result = self._pool.take(visit.order)
        self.tally.trained += 1
        visit.left = len(visit.result.frames)
        at, up = self.now, self._traces.pace(visit.client).up
        for index, frame in enumerate(visit.result.frames):
            at += frame.nbytes / up
            self._agenda.add(at, "uploaded", visit.client, visit.ticket, index)

    def _uploaded(self, visit: Visit, event: Event) -> None:
        """A server has received a chunk; after the last one the client submits."""
        result = visit.result
        assert result is not None
        frame = result.frames[event.chunk]
        self.tally.up[visit.client] += frame.nbytes
        upload = Upload(visit.ticket, visit.member, visit.task, visit.round, visit.client, event.chunk)
        answer = self._house.upload(visit.member, upload, frame, self.now)
        if isinstance(answer, Later):
            self._agenda.add(self.now + answer.seconds, "uploaded", visit.client, visit.ticket, event.chunk)
        elif not isinstance(answer, Stored):
            reason = answer.code if isinstance(answer, Error) else type(answer).__name__.lower()
            self._settle(visit, reason)
            self._agenda.add(self.now + AGAIN, "come", visit.client, self._turn(visit))
        else:
            visit.left -= 1
            if not visit.left:
                ticket = self._turn(visit)
                submit = Submit(
                    ticket, visit.member, visit.task, visit.version, result.examples, result.steps, result.report
                )
                self._house.tell(visit.member, submit, self.now)

    def _vanish(self, visit: Visit, event: Event) -> None:
        """A client drops out and says nothing more: it is missed after the heartbeat time-out, or comes back before."""
        self._settle(visit, "")
        self.tally.dropped += 1
        ticket = self._turn(visit)
        if visit.back > self.now + self._heartbeat:
            self._agenda.add(self.now + self._heartbeat, "leave", visit.client, ticket)
        else:
            self._agenda.add(visit.back, "come", visit.client, ticket)

    def _leave(self, visit: Visit, event: Event) -> None:
        """A client that dropped out counts as gone."""
        self._depart(visit)
        self._agenda.add(visit.back, "come", visit.client, self._turn(visit))

    def _tick(self, event: Event) -> None:
        if event.time == self._tick_at:
            self._tick_at, self._ticked = math.inf, self.now
            self._house.tick(self.now)

    # What the scheduler says

    def _listen(self) -> None:
        """Look at what is published, hand out what the scheduler has said, and see when it wants to look again."""
        while True:
            if self._house.version != self._version:
                self._version, self._since = self._house.version, self.now
                self._moved, self._events = self.now, 0
                weights = self._house.weights()
                self._pool.publish(self._version, weights)
                last = self._version >= self._house.job.rounds
                self._done = self._published(self._version, self.now, weights) or last
            heard = self._house.answers()
            if not heard:
                break
            for member, message in heard:
                self._hear(member, message)
        wake = self._house.wake(self.now)
        if wake is not None:
            wake = max(wake, self.now if self._ticked < self.now else self.now + AGAIN)
            if wake < self._tick_at:
                self._tick_at = wake
                self._agenda.add(wake, "tick")

    def _hear(self, member: int, message: Message) -> None:
        visit = self._visits[self._clients[member]] if member in self._clients else None
        if isinstance(message, Error):
            raise Refused(f"the scheduler to member {member}: {message.text}")
        if visit is None or not isinstance(message, Wait | Assign | Submitted) or message.request != visit.ticket:
            return  # it is about something that the client has turned away from
        if isinstance(message, Wait):
            self._agenda.add(self.now + message.seconds, "come", visit.client, self._turn(visit))
        elif isinstance(message, Assign):
            self._assigned(visit, message)
        else:
            accepted = message.verdict == "accepted"
            self.tally.accepted += accepted
            self._settle(visit, "" if accepted else message.verdict, accepted=accepted)
            self._agenda.add(self.now, "come", visit.client, self._turn(visit))

    # What clients keep

    def _join(self, visit: Visit) -> None:
        visit.member = self._house.join(visit.client, self.now)
        self._clients[visit.member] = visit.client

    def _depart(self, visit: Visit) -> None:
        if visit.member:
            self._house.leave(visit.member, self.now)
            del self._clients[visit.member]
            visit.member = 0

    def _settle(self, visit: Visit, refused: str, *, accepted: bool = False) -> None:
        """End a client's task; ``refused`` is the reason if it was."""
        if refused:
            self.tally.refused[refused] += 1
        if visit.order:
            self._pool.settle(visit.order, accepted)
        visit.order, visit.result = 0, None

    def _turn(self, visit: Visit) -> int:
        """Let a client turn to something else; return the ticket of that."""
        self._ticket += 1
        visit.ticket = self._ticket
        return self._ticket
