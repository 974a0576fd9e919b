"""Whom psctl status and psctl ping ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.cli.options import read_settings
from ps.config import SCHEDULER_PORT, parse_address
from ps.config.values import FLOAT
from ps.errors import UsageError


def read_address(text: str) -> str:
    """Return an address completed with scheme and port; UsageError when it is none."""
    try:
        return parse_address(text)
    except ValueError:
        raise UsageError(f"{text!r} is no address; it looks like tcp://host:7070") from None


def read_timeout(text: str) -> float:
    """Return a number of seconds; UsageError unless it is above 0."""
    try:
        seconds = float(FLOAT.read(text))
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise UsageError(f"--timeout {text}: must be a number of seconds greater than 0")
    return seconds


def find_scheduler(options: Mapping[str, Any]) -> str:
    """Return the scheduler's address as flags, environment or TOML have it, else the one of this machine."""
    process = read_settings(options).process().config
    return process.scheduler or f"tcp://127.0.0.1:{SCHEDULER_PORT}"
