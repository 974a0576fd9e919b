"""JobEntry: what the scheduler tells a follower: which job this is, and where its model is."""

from __future__ import annotations

import time
from collections.abc import Callable

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.errors import ConnectTimeout, JobEnded, PeerLost
from ps.following.reading import Permit
from ps.protocol.layout import Layout
from ps.protocol.membership import Peer
from ps.protocol.messages import Followed, FollowRequest
from ps.protocol.query import ask

ANSWER = 5.0
"""Seconds for which the scheduler's answer is waited for."""
NAP = 0.5
"""Seconds between questions whether the model is there."""


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A job whose servers hold a model."""

    job_id: int
    job: JobConfig
    layout: Layout
    permit: Permit
    servers: tuple[Peer, ...]

    @property
    def has_comers(self) -> bool:
        """Whether servers may come and go, with chunks that move between them."""
        return _has_comers(self.job)

    @property
    def chunk_bytes(self) -> int:
        """The bytes that a chunk has at most; float32 masters have twice those of half precision."""
        return 2 * self.job.chunk_bytes


def entry_of(answer: Followed) -> JobEntry | None:
    """Return what an answer says, if the model is there. Raises BadMessage, ConfigError."""
    if answer.phase != "running" or not answer.layout:
        return None
    job, servers = JobConfig.from_dict(answer.job), tuple(Peer(*row) for row in answer.members)
    if not servers or not (_has_comers(job) or sorted(peer.rank for peer in servers) == list(range(job.servers))):
        return None  # one is being replaced
    permit = Permit(answer.follower, answer.token)
    return JobEntry(answer.job_id, job, Layout.unpack(answer.layout), permit, servers)


def _has_comers(job: JobConfig) -> bool:
    return not (job.federated or job.replicas or job.pipeline)


def enter(address: str, timeout: float, say: Callable[[str], None], keys: str | None = None) -> JobEntry:
    """Return a job's entry, once its servers hold its model; ``say`` is told when that is waited for.

    Raises ConnectTimeout where nobody answers, or after ``timeout`` seconds without a model; JobEnded, or PeerLost for
    a job that has failed.
    """
    deadline, told = time.monotonic() + timeout, False
    while True:
        answer = ask(address, FollowRequest(0), Followed, ANSWER, keys)
        demand_going(answer, address)
        if (entry := entry_of(answer)) is not None:
            return entry
        what = "its members" if answer.phase == "waiting" else "its first values"
        if (left := deadline - time.monotonic()) <= 0:
            raise ConnectTimeout(
                f"the job at {address} has no model after {timeout:g} s: it waits for {what}. "
                f"Try: psctl status --scheduler {address}"
            )
        if not told:
            say(f"the job at {address} has no model yet: it waits for {what}")
            told = True
        time.sleep(min(NAP, left))


def demand_going(answer: Followed, address: str) -> None:
    """Raise JobEnded or PeerLost when a job is over."""
    if answer.phase == "failed":
        raise PeerLost(f"the job at {address} has failed: {answer.reason}")
    if answer.phase == "ended":
        raise JobEnded(f"the job at {address} has ended")
