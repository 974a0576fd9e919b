"""Pid: which process a process id means, and whether that process is gone, as the kernel knows it.

An id means nothing on another host, after a restart of the host, in another pid namespace (a container), or once it
has been given to the next process. Where there is no ``/proc`` (macOS) nothing is known, and nobody is taken for gone.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_PROC = Path("/proc")
_ENDED = "ZXx"
"""States of a process that runs no more: it has not been waited for (a zombie)."""


def realm() -> str:
    """Return within what process ids and start times mean the same as here; nothing when that is not known."""
    try:
        if (_PROC / "self").readlink().name != str(os.getpid()):  # /proc shows the processes of another namespace
            return ""
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()} {(_PROC / 'self/ns/time').readlink()}"
    except OSError:
        return ""


def mark() -> str:
    """Return what tells this process from all that have or will have its id; nothing when that is not known."""
    here, stat = realm(), _stat(os.getpid())
    return f"{here} {stat[1]}" if here and stat else ""


def realm_of(mark: str) -> str:
    """Return the ``realm`` of the process that has this mark; nothing when that is not known."""
    return mark.rpartition(" ")[0]


def is_gone(pid: int, mark: str, here: str) -> bool:
    """Whether the process that has, or had, this id and ``mark`` has ended, for certain. ``here``: our ``realm``."""
    if (born := _born(pid, mark, here)) is None:
        return False
    try:
        os.kill(pid, 0)  # asked first: /proc may hide the processes of others (hidepid)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    stat = _stat(pid)
    return stat is not None and (stat[0] in _ENDED or stat[1] != born)


def is_here(pid: int, mark: str, here: str) -> bool:
    """Whether the process that has this id is the one with this ``mark``, for certain, and runs."""
    return state(pid, mark, here) != ""


def state(pid: int, mark: str, here: str) -> str:
    """Return the state of the process with this id and ``mark``, a letter of ``/proc``; nothing unless it runs."""
    if (born := _born(pid, mark, here)) is None:
        return ""
    stat = _stat(pid)
    return stat[0] if stat is not None and stat[0] not in _ENDED and stat[1] == born else ""


def condition(pid: int, mark: str, here: str) -> str:
    """Return how the process with this id and ``mark`` is, in words for who waits for it; nothing unless it lives."""
    found = state(pid, mark, here)
    if found == "T":
        return f"it is stopped (SIGSTOP; kill -CONT {pid} has it go on)"
    if found == "t":
        return "a debugger holds it"
    return "its process lives: a call that holds its interpreter, or an overloaded host" if found else ""


def _born(pid: int, mark: str, here: str) -> str | None:
    """Return when the process with this ``mark`` began; None where nothing can be said from here of its id."""
    theirs, _, born = mark.rpartition(" ")
    return born if here and theirs == here and 0 < pid < 1 << 31 else None


def _stat(pid: int) -> tuple[str, str] | None:
    """Return the state of a process and when it began (ticks since the host's start), or None."""
    try:
        with open(f"{_PROC}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - of a thousand processes in one turn
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19].decode()
    except (OSError, IndexError):
        return None


def is_own_address(address: str) -> bool:
    """Whether an IP address is one of this host's: only those can be bound to."""
    if not address:  # any address, for a socket
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
        return True
    except OSError:
        return False
