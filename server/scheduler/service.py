"""The scheduler process: a socket, the time and a file around SchedulerState."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import zmq

from ps import ending
from ps.config.process import ProcessConfig
from ps.errors import BadMessage, ConfigError, PeerLost, PSError
from ps.protocol.inbox import Inbox
from ps.protocol.messages import Status, StatusRequest, Welcome
from ps.protocol.transport import TRANSPORTS, Socket, open_socket
from ps.server.scheduler.state import SchedulerState, Send
from ps.server.scheduler.status import snapshot
from ps.server.scheduler.store import ROUND, Store

log = logging.getLogger("ps.scheduler")

TICK = 0.1
"""Seconds between looks at the time."""
GRACE = 3.0
"""Seconds for which an ended job's scheduler goes on answering members that have not left yet."""
BATCH = 256


class Scheduler:
    """One scheduler process."""

    def __init__(self, explicit: dict[str, Any], process: ProcessConfig) -> None:
        self._process = process
        self._store = Store(process.state)
        self._began = time.monotonic()
        try:
            self._state = self._restore(explicit)
        except ConfigError:
            self._store.close()
            raise
        self._origins: dict[int, bytes] = {}
        self._chronicled = -1
        """How many rounds are saved in the history."""
        self._context: zmq.Context[Socket] = zmq.Context()
        self._router = open_socket(self._context, zmq.ROUTER)
        self._inbox = Inbox(self._router, "scheduler", 0)
        self._address = ""

    def _restore(self, explicit: dict[str, Any]) -> SchedulerState:
        saved = self._store.load()
        if saved is None or saved.get("phase") in ("ended", "failed"):
            return SchedulerState(explicit, self._began)
        try:
            state = SchedulerState.load(saved, self._began)
            if state.federation.rounds is not None and "rounds" in saved:
                state.federation.rounds.load(saved["rounds"], saved.get("history", []), self._began)
        except (KeyError, TypeError, ValueError, AttributeError, PSError) as error:
            raise ConfigError(
                f"{self._process.state} does not hold a scheduler's state: {error!r}; move it away"
            ) from None
        log.warning("going on with the job in %s: epoch %d, %s", self._process.state, state.epoch, state.phase)
        return state

    def run(self, ready: Callable[[str], None]) -> int:
        """Listen and answer until the job is over. Raises PeerLost with the reason when it failed."""
        try:
            host, port = self._process.host, self._process.port
            self._address = TRANSPORTS["tcp"].bind(self._router, host, port, Path())
            ready(self._address)
            over = 0.0
            while True:
                ending.check()
                self._turn()
                state, now = self._state, time.monotonic()
                if state.over:
                    over = over or now
                    if now - over > GRACE or not (state.count("server") or state.count("worker")):
                        break
            if self._state.phase == "failed":
                raise PeerLost(f"the job failed: {self._state.reason}")
            return 0
        finally:
            self._router.setsockopt(zmq.LINGER, 300)
            self._router.close()
            self._context.term()
            self._store.close()

    def _turn(self) -> None:
        state, sends = self._state, list[tuple[bytes, Send]]()
        if self._router.poll(int(TICK * 1000)):
            for origin, message, payload in self._inbox.receive(BATCH):
                if isinstance(message, StatusRequest):
                    self._inbox.send(origin, Status(message.request, self._snapshot()))
                    continue
                if (member := getattr(message, "member", 0)) in state.members:
                    self._origins[member] = origin
                try:
                    sends += [(origin, send) for send in state.receive(message, time.monotonic(), payload)]
                except BadMessage as error:
                    self._inbox.reject(origin, getattr(message, "request", 0), error)
        sends += [(b"", send) for send in state.tick(time.monotonic())]
        self._save()
        self._perform(sends)

    def _save(self) -> None:
        """Keep what has changed, once for all that came in one turn: it may be as much as there are members."""
        rounds = self._state.federation.rounds
        parts: dict[str, Any] = {}
        if rounds is not None and rounds.changed:
            rounds.changed = False
            parts["rounds"] = rounds.dump() if self._store.keeps else None
            for entry in (entry for entry in rounds.history if entry["round"] >= self._chronicled):
                parts[f"{ROUND}{entry['round']}"] = entry
            self._chronicled = rounds.version
        if self._store.keeps and (self._state.changed or parts):
            self._store.save(self._state.dump() if self._state.changed else None, parts)
        if self._state.changed:
            self._state.changed = False
            self._origins = {member: at for member, at in self._origins.items() if member in self._state.members}

    def _perform(self, sends: Iterable[tuple[bytes, Send]]) -> None:
        """Speak, after all was saved: what a member was told survives this process."""
        for origin, send in sends:
            if isinstance(send.message, Welcome):
                self._origins[send.message.member] = origin
            to = self._origins.get(send.to) if send.to else origin
            if to:
                self._inbox.send(to, send.message)

    def _snapshot(self) -> Any:
        now = time.monotonic()
        rejected = dict(self._inbox.rejected)
        return snapshot(self._state, now, address=self._address, uptime=now - self._began, rejected=rejected)


def serve(
    explicit: dict[str, Any], process: ProcessConfig, *, ready: Callable[[str], None] = lambda address: None
) -> int:
    """Run a scheduler until its job is over; return 0. ``ready`` is called with its address once it listens.

    ``explicit`` holds the job's settings that flags, environment or TOML set; the first worker's script completes
    them. Raises AddressInUse, ConfigError, or PeerLost when the job failed.
    """
    return Scheduler(explicit, process).run(ready)
