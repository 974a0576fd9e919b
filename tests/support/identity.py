"""Who is who in tests: one job's key, and what its members say and show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ps.protocol.messages import Identify, Message, Resume, Submit, Upload, Welcome
from ps.server.job_key import JobKey

KEY = JobKey(job_id=5, secret="of tests")
OTHER = JobKey(job_id=6, secret="of another job")


def identify(member: int, rank: int = 0, number: int = 1, key: JobKey = KEY) -> Identify:
    """Return what a member says on a new connection."""
    return Identify(0, key.job_id, member, rank, number, key.proof(member, rank, number))


def welcome(
    member: int = 1,
    rank: int = 0,
    timeout: float = 10.0,
    job: dict[str, Any] | None = None,
    key: JobKey = KEY,
) -> Welcome:
    """Return what a scheduler tells a server that joins as this member."""
    proof = key.proof(member, rank, member)
    return Welcome(0, member, rank, timeout, job or {}, key.job_id, member, proof, key.secret)


def with_token(message: Message, rank: int, key: JobKey = KEY) -> Message:
    """Return a message as the client of this rank says it that was given the task."""
    if isinstance(message, Upload | Resume | Submit):
        return replace(message, token=key.token(message.task, rank))
    return message
