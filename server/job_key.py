"""JobKey: which job this is, and what proves that somebody is a member of it, or was given a task.

The scheduler makes one for each job, keeps it with the job's state, and gives it to the servers and to nobody else.
"""

from __future__ import annotations

import hmac
import secrets
from functools import lru_cache
from typing import Any

from ps.dataclass import dataclass

BITS = 62
"""Of a job's and a member's id, and of what is proven with: any language has such integers."""


def random_id() -> int:
    """Return an id that nobody guesses, never 0."""
    return secrets.randbelow((1 << BITS) - 1) + 1


@dataclass(frozen=True, slots=True)
class JobKey:
    """The job's id, and the secret (a text of any length) that proofs and tokens are made with (HMAC-SHA256, RFC 2104).

    What is made with another job's secret is worth nothing here.
    """

    job_id: int
    secret: str

    @staticmethod
    def new() -> JobKey:
        """Return the key of a job that begins now, out of the operating system's randomness."""
        return JobKey(random_id(), secrets.token_hex(32))

    def proof(self, member: int, rank: int, number: int) -> int:
        """Return what proves that somebody is this member, which has this rank and was the ``number``-th to join."""
        return self._sign(f"member {member} {rank} {number}")

    def token(self, task: int, rank: int) -> int:
        """Return what proves that a task was given to the client of this rank."""
        return _token(self.secret, task, rank)

    def leave(self, follower: int) -> int:
        """Return what proves that somebody who is no member was given leave to read the model."""
        return self._sign(f"follower {follower}")

    def masks(self, version: int, attempt: int) -> int:
        """Return what proves that the scheduler has asked for the sum of masks of an attempt at a round."""
        return self._sign(f"masks {version} {attempt}")

    def line(self, sender: int, receiver: int) -> int:
        """Return with what one worker of a pipeline shows to another one who it is; no third one knows it."""
        return self._sign(f"line {sender} {receiver}")

    def _sign(self, text: str) -> int:
        return _signed(self.secret, text)

    def dump(self) -> dict[str, Any]:
        """Return the key as plain values."""
        return {"id": self.job_id, "secret": self.secret}

    @staticmethod
    def load(values: dict[str, Any]) -> JobKey:
        """Return what ``dump`` wrote."""
        return JobKey(values["id"], values["secret"])


def _signed(secret: str, text: str) -> int:
    keyed = _keyed(secret).copy()
    keyed.update(text.encode())
    return int.from_bytes(keyed.digest()[:8], "big") >> (64 - BITS)


@lru_cache(maxsize=16_384)
def _token(secret: str, task: int, rank: int) -> int:
    """Return a task's token: it is asked for with the task, and again with all that comes of it."""
    return _signed(secret, f"task {task} {rank}")


@lru_cache(maxsize=8)
def _keyed(secret: str) -> hmac.HMAC:
    """Return the hash that has taken in the key, to be copied: a message of a client asks for several proofs."""
    return hmac.new(secret.encode(), digestmod="sha256")
