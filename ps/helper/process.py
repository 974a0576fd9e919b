"""The helper process: sockets and the time around SumAnswer. It is no member of the job, and connects outwards only."""

from __future__ import annotations

import logging
import os
import time
from urllib.parse import urlsplit

from ps import sigterm
from ps.config.job import JobConfig
from ps.config.secure import frames_of
from ps.errors import ConfigError, ConnectTimeout, KeyRefused, PeerLost, Refused
from ps.following.servers import Servers
from ps.helper.answer import SumAnswer
from ps.keys import local_run
from ps.loopback import is_loopback
from ps.protocol.layout import Layout
from ps.protocol.membership import Peer
from ps.protocol.messages import Followed, FollowRequest, HelpOrder
from ps.protocol.parties import parties
from ps.protocol.query import ask
from ps.protocol.security import Security
from ps.secure.helped import SumOfMasks

log = logging.getLogger("ps.helper")

NAP = 0.1
"""Seconds between two questions to the scheduler."""
SOON = 10.0
"""Seconds for which a scheduler of this host may refuse who has no keys: a run says where they are once it listens."""
ANSWER = 10.0
"""Seconds for which an answer of the scheduler is waited for."""
LOOK = 5.0
"""Seconds between two looks at which servers there are."""


def serve(address: str, least: int, timeout: float) -> int:
    """Help a job until it ends; return 0.

    ``least``: so many clients that are listed here must be in a sum, whatever the job says; ``timeout``: seconds
    for which a scheduler is waited for that is not there, or not any more. Raises ConfigError for a job without a
    helper, PeerLost or ConnectTimeout where the job is gone.
    """
    followed = _model(address, timeout)
    if followed is None:
        return 0
    known = parties(Security.to_ask(address, None).folder, address)
    job = JobConfig.from_dict(followed.job)
    if not job.specs.secure.build().helper:
        raise ConfigError(f"the job at {address} has --secure {job.secure}, and no use for a helper")
    chunks = Layout.unpack(followed.layout).cut(job)
    frames = frames_of(job, chunks)
    assert frames is not None
    job_id = f"{followed.job_id:x}"
    steady = not job.specs.algorithm.build().buffer
    sums = SumOfMasks(job_id, known.signer, known.clients, max(least, job.secure_min), steady=steady)
    answer = SumAnswer(sums, frames, chunks)
    log.info("helping the job at %s: sums of at least %d clients", address, max(least, job.secure_min))
    return _Loop(address, answer, timeout, job.chunk_bytes).run(followed)


def _model(address: str, timeout: float) -> Followed | None:
    """Wait until the job has a model; return how it is then, or None where it has ended."""
    since = refused = time.monotonic()
    waits = False
    given = "PS_KEYS" in os.environ
    while True:
        sigterm.check()
        if not given and (keys := local_run.folder_of(address, "helper")) is not None:
            os.environ["PS_KEYS"] = keys  # of a run on this host that has begun meanwhile
        try:
            followed = ask(address, FollowRequest(0), Followed, ANSWER)
        except KeyRefused:
            if (
                given
                or time.monotonic() - refused > SOON
                or not is_loopback(urlsplit(address).hostname or "", resolve=True)
            ):
                raise
            time.sleep(NAP)
            continue
        except ConnectTimeout:  # it may be started before the scheduler
            if time.monotonic() - since > timeout:
                raise
            if not waits:
                log.info("waiting %g s for a scheduler at %s", timeout, address)
            waits, refused = True, time.monotonic()
            time.sleep(NAP)
            continue
        if followed.layout or followed.phase in ("ended", "failed"):
            return followed if followed.layout and followed.phase == "running" else None
        if time.monotonic() - since > timeout:
            raise PeerLost(f"the job at {address} has had no model for {timeout:g} s")
        time.sleep(NAP)


class _Loop:
    def __init__(self, address: str, answer: SumAnswer, timeout: float, chunk: int) -> None:
        self._address, self._answer, self._timeout, self._chunk = address, answer, timeout, chunk
        self._servers = Servers(Security.to_ask(address, None))
        self._looked = self._heard = time.monotonic()
        self._refused = ""

    def run(self, followed: Followed) -> int:
        try:
            self._connect(followed)
            while True:
                sigterm.check()
                if not self._look() or not self._turn():
                    log.info("the job has ended: %d sums were told", self._answer.told)
                    return 0
        finally:
            self._servers.close()

    def _connect(self, followed: Followed) -> None:
        self._servers.connect([Peer(*row) for row in followed.members], self._chunk)

    def _look(self) -> bool:
        """See now and then which servers there are; return whether the job goes on."""
        now = time.monotonic()
        if now - self._looked < LOOK:
            return True
        self._looked = now
        try:
            followed = ask(self._address, FollowRequest(0), Followed, ANSWER)
        except (ConnectTimeout, Refused) as error:
            self._wait_for_scheduler(error)
            return True
        if followed.phase in ("ended", "failed"):
            return False
        self._connect(followed)
        return True

    def _turn(self) -> bool:
        """Ask what is wanted, and tell it; return whether the job goes on."""
        try:
            order = ask(self._address, self._answer.ask(), HelpOrder, ANSWER)
        except (ConnectTimeout, Refused) as error:
            self._wait_for_scheduler(error)
            return True
        self._heard = time.monotonic()
        if order.over:
            return False
        for rank, message, words in self._answer.hear(order, time.monotonic()):
            self._servers.send(rank, message, words)
            self._receive(0.0)
        if self._answer.why and self._answer.why != self._refused:
            log.warning("a sum is not told: %s", self._answer.why)
        self._refused = self._answer.why
        self._receive(NAP)
        return True

    def _receive(self, seconds: float) -> None:
        """Read what servers answer: nothing depends on it, for what is still wanted the scheduler asks again."""
        for _ in self._servers.receive(seconds):
            pass

    def _wait_for_scheduler(self, error: Exception) -> None:
        """The scheduler does not answer: wait for it a while, or raise PeerLost."""
        if time.monotonic() - self._heard > self._timeout:
            raise PeerLost(f"the scheduler at {self._address} is gone: {error}")
        time.sleep(NAP)
