"""Descriptors: how many files and connections this process may have open at once, which the system bounds; and those
that a launcher has handed over.

Where it runs out of them, ZeroMQ turns away who comes by tcp, and ends the process when somebody comes by ipc.
"""

from __future__ import annotations

import os

from ps.errors import ConfigError, UsageError

LEAST = 128
"""Open files with room for a dozen peers; servers and schedulers need one to three for each more."""
MOST = 1 << 20
"""What is taken where there is no limit: as many as Linux ever allows by default."""


def demand(role: str) -> None:
    """Raise ConfigError where this process may not even open the least that a role needs."""
    _limits(role)


def claim(role: str) -> None:
    """Take as many as the system allows, for a process that is ours alone. Raises ConfigError as ``demand`` does."""
    soft, most = _limits(role)
    if soft < most:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def allowed() -> int:
    """Return how many files this process may have open."""
    try:
        import resource
    except ImportError:
        return MOST
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if 0 <= soft < MOST else MOST


def _limits(role: str) -> tuple[int, int]:
    """Return what is allowed now, and what may be taken."""
    try:
        import resource
    except ImportError:  # a system without such a limit
        return MOST, MOST
    soft, hard = (limit if 0 <= limit < MOST else MOST for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    if hard < LEAST:
        raise ConfigError(f"{role} may open {hard} files here and needs at least {LEAST}; try: ulimit -n 4096")
    return soft, hard


def take_descriptor(variable: str) -> int | None:
    """Return the open descriptor that a variable names and remove the variable, so that nobody inherits it."""
    text = os.environ.pop(variable, "")
    if not text:
        return None
    try:
        fd = int(text)
        os.set_inheritable(fd, False)
    except (ValueError, OSError):
        raise UsageError(f"{variable} = {text!r} is not an open file descriptor") from None
    return fd
