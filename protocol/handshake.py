"""Handshake: why no connection comes about, by what ZeroMQ tells of those tried. A wrong key is no dead host."""

from __future__ import annotations

import errno
from typing import Literal

import zmq

from ps.errors import KeyRefused
from ps.protocol.security import Security

EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
MISMATCH = 0x11000002
"""What ZeroMQ says when one side has keys and the other has not."""
CRYPTOGRAPHIC = 0x11000001
"""What it says when something cannot be decrypted. All else that breaks the protocol is of somebody without keys."""
FAILURES, LASTING = 5, 0.7
"""So many connections that ended in the handshake, over so many seconds, are no accident: the key is another."""
SLOW = 5.0
"""Seconds after which a connection that ends was not ended for its key: that is known at once."""

Verdict = Literal["", "refused", "another", "mismatch"]


class Handshake:
    """What came of the connections of one socket."""

    def __init__(self) -> None:
        self.verdict: Verdict = ""
        self.failures = 0
        """Connections in a row that the other end has ended in the handshake, as it does where the key is another.

        One that is reset, or times out, was cut because there are too many, or for want of time: it is tried again.
        """
        self.successes = 0
        """Connections that came about."""
        self._since = self._connected = 0.0

    def hear(self, event: int, value: int, now: float) -> None:
        """Take what ZeroMQ tells."""
        if event == zmq.EVENT_CONNECTED:
            self._connected = now
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.successes += 1
            self.forget()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.verdict = "refused"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value & 0xFFFFFFFF == MISMATCH:
            self.verdict = "mismatch"
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL and value & 0xFFFFFFFF != CRYPTOGRAPHIC:
            self.failures = 0
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and (value != errno.EPIPE or now - self._connected > SLOW):
            self.failures = 0  # no wrong key ends so
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
            self._since = self._since if self.failures else now
            self.failures += 1
            if self.failures >= FAILURES and now - self._since >= LASTING:
                self.verdict = self.verdict or "another"

    def forget(self) -> None:
        """Begin anew: with another key, or since one was right."""
        self.verdict, self.failures = "", 0


def key_error(verdict: Verdict, security: Security, peer: str) -> KeyRefused:
    """Return what is raised: whose key was refused by whom, and what to do."""
    own = security.own
    if own is None or security.folder is None:
        return KeyRefused(f"{peer} wants keys, and this process has none: give --keys DIR or PS_KEYS")
    who = f"{own.public.name} ({own.public.role}, {own.public.fingerprint})"
    if verdict == "refused":
        return KeyRefused(
            f"{peer} refused the key of {who}: it is not listed there, or was revoked. "
            f"There: psctl keys add {own.public.name} FILE"
        )
    if verdict == "mismatch":
        return KeyRefused(
            f"{peer} has no keys, and {who} refuses to talk without: is it another job's, or started without --keys?"
        )
    return KeyRefused(
        f"{who} refuses {peer}: it does not have the key that {security.folder.path} lists for it, or "
        f"none at all. Another cluster's, or its key was replaced? Compare fingerprints: "
        f"psctl keys list --keys {security.folder.path}"
    )
