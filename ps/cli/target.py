"""Whom psctl status and psctl ping ask."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from ps.cli.options import read_settings
from ps.cli.value import real
from ps.config import SCHEDULER_PORT, parse_address
from ps.config.setting import shorten
from ps.config.values import LONGEST_WAIT
from ps.errors import UsageError
from ps.keys import local_run
from ps.protocol import address_file

F = TypeVar("F", bound=Callable[..., Any])


def read_address(text: str) -> str:
    """Return an address completed with scheme and port; UsageError when it is none."""
    try:
        return address_file.read(parse_address(text))[0]
    except ValueError:
        raise UsageError(f"{shorten(text)} is no address; it looks like tcp://host:7070") from None


def timeout_option(function: F) -> F:
    """Add the flag that says how long an answer is waited for."""
    seconds = real(above=0, high=LONGEST_WAIT)
    option = click.option(
        "--timeout", type=seconds, default=5.0, metavar="X", help="seconds to wait for the answer (5)"
    )
    return option(function)


def find_keys(options: Mapping[str, Any]) -> str | None:
    """Return the folder of keys as flags, environment or TOML have it."""
    return read_settings(options).process().config.keys


def find_scheduler(options: Mapping[str, Any], role: str = "operator") -> str:
    """Return the scheduler's address as flags, environment or TOML have it, else the one of this machine.

    ``role``: by whose keys whoever asks speaks, in a run on this host that has made some.
    """
    process = read_settings(options).process().config
    address, _ = address_file.read(process.scheduler or f"tcp://127.0.0.1:{SCHEDULER_PORT}")
    keys = process.keys or (None if role == "operator" else local_run.folder_of(address, role))
    if keys is not None:
        os.environ["PS_KEYS"] = keys  # the flag's twin, for whatever this command asks
    return address
