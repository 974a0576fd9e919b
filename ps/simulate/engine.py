"""Engine: the lives of all clients in virtual time, event by event, against the real scheduler and servers.

A client has the conversations of a real one: here they are given their answers when virtual time has come to them, as
its traces have it. One that drops out says nothing more: after the heartbeat time-out it counts as gone, and comes back
later. Training itself happens in the pool, and costs no virtual time but what the traces say. Nothing here looks at a
real clock, so that the same seed gives the same history.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ps.config.values import LONGEST_WAIT
from ps.errors import Refused, StateError
from ps.protocol.messages import (
    Assign,
    Cohort,
    Consents,
    Error,
    Finished,
    KeyOffer,
    KeyShares,
    Message,
    Ok,
    ShareInbox,
    Submitted,
    Unmask,
    Upload,
    Wait,
)
from ps.secure.identity import ThrowawaySigner, anybody
from ps.server.scheduler.rounds.assignments import stays
from ps.simulate.client_state import ClientState
from ps.simulate.contract import Cluster, TrainingPool
from ps.simulate.counters import Counters
from ps.simulate.event_queue import Event, EventQueue
from ps.simulate.local_work import LocalWork
from ps.simulate.task import TrainingTask
from ps.simulate.traces import Traces
from ps.simulate.visit import Train, Visited, visit
from ps.worker.conversation import Calls, Connect, Pause
from ps.worker.federated.delta_masker import DeltaMasker
from ps.worker.federated.participation import ACCEPTED, FederatedParticipation
from ps.xp import HostArray

PATIENCE = 30 * 86400.0
"""Virtual seconds without a published round after which a simulation is given up."""

STILL = 10_000
"""Events, beside a thousand for each client, in which neither a virtual second passes nor a round is published, after
which it is clear that none ever will."""

AGAIN = 1.0
"""Seconds after which a client comes back whose upload was turned down."""

HEARD = Wait, Assign, Finished, Submitted, Ok, Cohort, ShareInbox, Unmask, Consents
"""What the scheduler answers to clients."""

Published = Callable[[int, float, HostArray], bool]
"""``published(version, now, weights)`` looks at each version, the first included; True ends the simulation."""


class Engine:
    """Lets every client live until all rounds are published."""

    def __init__(
        self,
        cluster: Cluster,
        pool: TrainingPool,
        traces: Traces,
        work: LocalWork,
        sizes: Sequence[int],
        published: Published = lambda version, now, weights: False,
        heartbeat: float = 10.0,
    ) -> None:
        """``sizes``: each client's number of examples. ``heartbeat``: seconds until a silent one counts as gone."""
        self.now = 0.0
        self.counters = Counters.of(len(sizes))
        self._cluster, self._pool, self._traces = cluster, pool, traces
        self._work, self._sizes, self._published = work, sizes, published
        self._heartbeat = heartbeat
        self._stay = stays(cluster.job)
        self._nbytes = sum(chunk.nbytes for chunk in cluster.chunks)
        self._queue = EventQueue()
        self._states = [ClientState(client) for client in range(len(sizes))]
        self._clients: dict[int, int] = {}
        self._ticket = 0
        self._version = -1
        self._since = 0.0
        self._moved, self._events = 0.0, 0
        """When a virtual second had passed or a round was published, the last time, and the events since."""
        self._tick_at, self._ticked = math.inf, -math.inf
        self._done = False
        self._happen: Mapping[str, Callable[[ClientState, Event], None]] = {
            "come": self._come,
            "leave": self._leave,
            "answered": self._answered,
            "trained": self._trained,
            "uploaded": self._uploaded,
            "vanish": self._vanish,
        }

    def run(self) -> None:
        """Run to the end, once.

        StateError when no round is published any more, PeerLost when the job fails or a process is gone.
        """
        for state in self._states:  # the job begins when all its clients were there once
            self._join(state)
        for state in self._states:
            self._queue.add(0.0, "come", state.client, state.ticket)
        self._listen()
        while not self._done:
            if not len(self._queue):
                self._queue.add(self.now + AGAIN, "tick")
                self._tick_at = self.now + AGAIN
            event = self._queue.next()
            self._pass(event.time)
            if self.now - self._since > PATIENCE:
                raise StateError(
                    f"round {self._version} was not published in {PATIENCE / 86400:g} virtual days: are enough clients "
                    f"there, and for long enough? See --availability, --dropout and --min-clients"
                )
            if event.what == "tick":
                self._tick(event)
            else:
                state = self._states[event.client]
                if event.ticket != state.ticket:
                    continue
                self._happen[event.what](state, event)
                if event.what == "trained" and state.left:
                    continue  # it uploads: nobody has heard of it yet
            self._listen()

    def _pass(self, time: float) -> None:
        """Let it be that time; StateError where time does not pass, or no time follows."""
        if not math.isfinite(time):
            raise StateError(f"round {self._version} never ends: no client is there any more. See --availability")
        if time > LONGEST_WAIT:
            raise StateError(
                f"virtual time has come to {LONGEST_WAIT:g} s, thirty years, in round {self._version}: no simulation "
                f"goes further. See --speed, --bandwidth, --availability and --rounds"
            )
        self._events += 1
        if time >= self._moved + 1:
            self._moved, self._events = time, 0
        elif self._events > STILL + 1000 * len(self._states) * len(self._cluster.chunks):
            raise StateError(
                f"round {self._version} never ends: virtual time stands still at {time:g} s. See --availability"
            )
        self.now = time

    # What happens

    def _come(self, state: ClientState, event: Event) -> None:
        """A client that is on polls; one that is not leaves, and comes when it is."""
        span = self._traces.span(state.client, self.now)
        if not span.on:
            self._depart(state)
            self._queue.add(span.until, "come", state.client, self._turn(state))
            return
        if not state.member:
            self._join(state)
        self.counters.polls += 1
        cluster = self._cluster
        part = FederatedParticipation(cluster.job, cluster.layout, cluster.chunks, state.client, lambda: state.member)
        state.visit = visit(part, state.version, state.client, self._masker(state))
        self._go_on(state)
        if self._stay and span.until < math.inf:  # it may wait for longer than it is on
            self._queue.add(span.until, "come", state.client, state.ticket)

    def _masker(self, state: ClientState) -> DeltaMasker | None:
        """Return what a client's deltas are masked with, made when it is first needed."""
        cluster = self._cluster
        if state.masker is None and cluster.job.specs.secure.build().masks:
            state.masker = DeltaMasker(cluster.job, cluster.chunks, cluster.job_id, ThrowawaySigner(), anybody)
        return state.masker

    def _go_on(self, state: ClientState, answer: Any = None) -> None:
        """Give a client the answer to what it has asked, and see to what it asks next."""
        assert state.visit is not None
        try:
            asked = state.visit.send(answer)
            while isinstance(asked, Connect):
                asked = state.visit.send(None)
        except StopIteration as end:
            self._visited(state, end.value)
            return
        match asked:
            case Pause():
                self._queue.add(self.now + asked.seconds, "answered", state.client, state.ticket)
            case Train():
                state.version = asked.version
                if state.order:
                    self._queue.add(max(state.due, self.now), "trained", state.client, state.ticket)
            case Calls():
                self._call(state, asked)
            case _:
                agrees = isinstance(asked.make(0, 0), KeyOffer | KeyShares)  # what is planned for its task holds
                question = asked.make(state.ticket if agrees else self._turn(state), state.member)
                self._cluster.tell(state.member, question, self.now)

    def _call(self, state: ClientState, asked: Calls) -> None:
        """Have servers answer: an upload when it is there, all else at once. What a pull takes is part of ``due``."""
        first = asked.calls[0].make(state.ticket)
        if not isinstance(first, Upload):
            self._go_on(
                state,
                [self._cluster.call(call.server, call.make(state.ticket), None, self.now) for call in asked.calls],
            )
            return
        state.calls, state.left, state.answer = asked.calls, len(asked.calls), []
        at, up = self.now, self._traces.rates(state.client).up
        for index, call in enumerate(asked.calls):
            assert call.payload is not None
            at += call.payload.nbytes / up
            self._queue.add(at, "uploaded", state.client, state.ticket, index)

    def _answered(self, state: ClientState, event: Event) -> None:
        answer, state.answer = state.answer, None
        self._go_on(state, answer)

    def _assigned(self, state: ClientState, message: Assign) -> None:
        """A client has a task: it is given to the pool, unless the client drops out before it would be trained."""
        client = state.client
        ticket = self._turn(state)
        rates, span = self._traces.rates(client), self._traces.span(client, self.now)
        pulled = self.now + self._nbytes / rates.down
        due = state.due = pulled + self._work.local_steps(self._sizes[client]) * rates.seconds_per_step
        ends = span.until if span.on else self.now
        after = self._traces.span(client, ends) if ends < math.inf else span
        state.back = ends if after.on else after.until
        if not (due < math.inf or ends < math.inf):
            raise StateError(
                f"round {self._version} never ends: client {client} needs {due:g} s. See --speed, --bandwidth"
            )
        share = self._traces.gives_up(client, ticket)
        if share is not None:
            gone = self.now + share * (due + self._nbytes / rates.up - self.now)
            if gone < ends:
                ends, state.back = gone, max(gone + AGAIN, self.now + message.seconds)
        if pulled < ends:
            self.counters.down[client] += self._nbytes
        if ends < math.inf:
            self._queue.add(ends, "vanish", client, ticket)
        if due < ends:
            state.order = ticket
            self._pool.give(TrainingTask(client, ticket, message.round, self._version, message.evaluate), due)
        self._go_on(state, message)

    def _trained(self, state: ClientState, event: Event) -> None:
        """A client has its delta, or none."""
        self.counters.trained += 1
        self._go_on(state, self._pool.take(state.order))

    def _uploaded(self, state: ClientState, event: Event) -> None:
        """A server has received a chunk."""
        call = state.calls[event.chunk]
        assert call.payload is not None
        self.counters.up[state.client] += call.payload.nbytes
        answer = self._cluster.call(call.server, call.make(state.ticket), call.payload, self.now)
        if isinstance(answer, Error):
            self._over(state, answer.code, AGAIN)
            return
        state.answer.append(answer)
        state.left -= 1
        if not state.left:
            self._answered(state, event)

    def _visited(self, state: ClientState, came: Visited) -> None:
        """A client has heard the verdict on what it contributed, or has nothing to do now."""
        self.counters.accepted += came.verdict == ACCEPTED
        self._over(state, came.verdict, came.seconds)

    def _over(self, state: ClientState, verdict: str, seconds: float | None) -> None:
        """End a client's visit; it comes again after so many seconds, if ever."""
        self._settle(state, "" if verdict == ACCEPTED else verdict, accepted=verdict == ACCEPTED)
        ticket = self._turn(state)
        if seconds is not None:
            self._queue.add(self.now + seconds, "come", state.client, ticket)

    def _vanish(self, state: ClientState, event: Event) -> None:
        """A client drops out and says nothing more: it is missed after the heartbeat time-out, or comes back before."""
        self._settle(state, "")
        self.counters.dropped += 1
        ticket = self._turn(state)
        if state.back > self.now + self._heartbeat:
            self._queue.add(self.now + self._heartbeat, "leave", state.client, ticket)
        else:
            self._queue.add(state.back, "come", state.client, ticket)

    def _leave(self, state: ClientState, event: Event) -> None:
        """A client that dropped out counts as gone."""
        self._depart(state)
        self._queue.add(state.back, "come", state.client, self._turn(state))

    def _tick(self, event: Event) -> None:
        if event.time == self._tick_at:
            self._tick_at, self._ticked = math.inf, self.now
            self._cluster.tick(self.now)

    # What the scheduler says

    def _listen(self) -> None:
        """Look at what is published, hand out what the scheduler has said, and see when it wants to look again."""
        while True:
            if self._cluster.version != self._version:
                self._version, self._since = self._cluster.version, self.now
                self._moved, self._events = self.now, 0
                weights = self._cluster.weights()
                self._pool.publish(self._version, weights)
                last = self._version >= self._cluster.job.rounds
                self._done = self._published(self._version, self.now, weights) or last
            heard = self._cluster.answers()
            if not heard:
                break
            for member, message in heard:
                self._hear(member, message)
        wake = self._cluster.wake(self.now)
        if wake is not None:
            wake = max(wake, self.now if self._ticked < self.now else self.now + AGAIN)
            if wake < self._tick_at:
                self._tick_at = wake
                self._queue.add(wake, "tick")

    def _hear(self, member: int, message: Message) -> None:
        state = self._states[self._clients[member]] if member in self._clients else None
        if isinstance(message, Error):
            raise Refused(f"the scheduler to member {member}: {message.text}")
        if state is None or not isinstance(message, HEARD) or message.request != state.ticket:
            return  # it is about something that the client has turned away from
        if isinstance(message, Assign):
            self._assigned(state, message)
        else:
            self._go_on(state, message)

    # What clients keep

    def _join(self, state: ClientState) -> None:
        state.member = self._cluster.join(state.client, self.now)
        self._clients[state.member] = state.client

    def _depart(self, state: ClientState) -> None:
        if state.member:
            self._cluster.leave(state.member, self.now)
            del self._clients[state.member]
            state.member = 0

    def _settle(self, state: ClientState, refused: str, *, accepted: bool = False) -> None:
        """End a client's task; ``refused`` is the reason if it was."""
        if refused:
            self.counters.refused[refused] += 1
        if state.order:
            self._pool.settle(state.order, accepted)
        state.order, state.visit, state.left, state.answer = 0, None, 0, None

    def _turn(self, state: ClientState) -> int:
        """Let a client turn to something else; return the ticket of that."""
        self._ticket += 1
        state.ticket = self._ticket
        return self._ticket
