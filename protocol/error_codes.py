"""Error codes: the words in an Error, or in the View of a job that has failed, and the exceptions they stand for."""

from __future__ import annotations

from collections.abc import Mapping

from ps.errors import (
    CheckpointError,
    ConfigError,
    ConnectTimeout,
    Evicted,
    JobEnded,
    KeyRefused,
    LayoutMismatch,
    PeerLost,
    ProtocolError,
    PSError,
    Refused,
    ServerLost,
    VersionMismatch,
)
from ps.protocol.fitting import printable
from ps.protocol.messages import Error, View
from ps.protocol.messages.words import ErrorCode

ERRORS: Mapping[str, type[PSError]] = {
    "version": VersionMismatch,
    "another-job": PeerLost,
    "ended": JobEnded,
    "evicted": Evicted,
    "layout": LayoutMismatch,
    "config": ConfigError,
    "timeout": ConnectTimeout,
    "key": KeyRefused,
    "server-lost": ServerLost,
    "no-worker": PeerLost,
    "unsaved": CheckpointError,
}
"""What codes are raised as; any other is merely refused."""


def refusal(error: Error, peer: str = "") -> PSError:
    """Return what an Error is raised as; its text begins with ``peer``, if that is given."""
    text = _line(error.text, error.code)
    return ERRORS.get(error.code, Refused)(f"{peer}: {text}" if peer else text)


def failure(view: View) -> PSError:
    """Return what the view of a job that has failed is raised as."""
    return ERRORS.get(view.code, PeerLost)(_line(view.reason, view.code))


def _line(text: str, code: str) -> str:
    """Return what a peer said as one line that a terminal shows as it is; never nothing."""
    return printable(" ".join(text.split())) or f"refused, without a reason{f' ({printable(code)})' if code else ''}"


def code_of(error: ProtocolError) -> ErrorCode:
    """Return the code by which the sender of what broke the protocol is told."""
    return "version" if isinstance(error, VersionMismatch) else "bad-message"
