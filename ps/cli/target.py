"""Whom psctl status and psctl ping ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ps.cli.options import read_settings
from ps.cli.value import real
from ps.config import SCHEDULER_PORT, parse_address
from ps.config.setting import shorten
from ps.config.values import LONGEST_WAIT
from ps.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def read_address(text: str) -> str:
    """Return an address completed with scheme and port; UsageError when it is none."""
    try:
        return parse_address(text)
    except ValueError:
        raise UsageError(f"{shorten(text)} is no address; it looks like tcp://host:7070") from None


def timeout_option(function: F) -> F:
    """Add the flag that says how long an answer is waited for."""
    seconds = real(above=0, high=LONGEST_WAIT)
    option = click.option(
        "--timeout", type=seconds, default=5.0, metavar="X", help="seconds to wait for the answer (5)"
    )
    return option(function)


def find_scheduler(options: Mapping[str, Any]) -> str:
    """Return the scheduler's address as flags, environment or TOML have it, else the one of this machine."""
    process = read_settings(options).process().config
    return process.scheduler or f"tcp://127.0.0.1:{SCHEDULER_PORT}"
