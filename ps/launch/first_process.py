"""The first process of a container, which the others' end depends on: it is asked to end, and has to reap orphans.

A shell in that place keeps the asking for itself. psctl in that place has a process of its own do what it is for.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox", "ksh", "zsh"})
INITS = frozenset({"tini", "docker-init", "catatonit"})
"""Those that hand a signal on to the one process that they have started."""
FORWARDED = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}
)
_BY_KERNEL = 128
"""The code of a signal that the system itself sends, as a terminal does to all of its processes."""


def stand_before() -> int | None:
    """Have a new process go on, where this one is the first of its container; return what to end with in that place.

    In the new process, and anywhere else, return None: go on. The first process hands on what it is asked, and reaps.
    """
    if os.getpid() != 1:
        return None
    heard = {*FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while True:
        about = signal.sigwaitinfo(heard)
        if about.si_signo == signal.SIGCHLD:
            if (status := _reaped(child)) is not None:
                return status
        elif about.si_code != _BY_KERNEL:
            os.kill(child, about.si_signo)


def _reaped(child: int) -> int | None:
    """Reap whoever has ended; return with what this process ends if the one that it stands before has."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def doubts(proc: Path = Path("/proc"), pid: int | None = None) -> str:
    """Return what to tell where this process would not be asked to end, for a shell before it; else nothing."""
    at, chain = os.getpid() if pid is None else pid, list[tuple[int, str]]()
    while at > 1 and len(chain) < 10:
        name, parent = _about(proc, at)
        chain.append((at, name))
        at = parent
    if at != 1:
        return ""
    first, between = _about(proc, 1)[0], chain[1:]
    keeping = [name for at, name in between if name in SHELLS and not _heeds(proc, at)]
    if first in SHELLS and not _heeds(proc, 1):
        shell = first
    elif first in INITS and keeping and all(name in SHELLS for _, name in between):
        shell = keeping[-1]
    else:
        return ""
    return (
        f"{shell} stands between this process and whoever ends its container, and keeps SIGTERM for itself: nothing "
        f"would be saved. Write: exec psctl, or have no shell before it"
    )


def _about(proc: Path, pid: int) -> tuple[str, int]:
    """Return a process's name and its parent; 0 where that is not to be known."""
    try:
        name, _, rest = (proc / str(pid) / "stat").read_text(errors="replace").partition("(")[2].rpartition(")")
        return name, int(rest.split()[1])
    except (OSError, ValueError, IndexError):
        return "", 0


def _heeds(proc: Path, pid: int) -> bool:
    """Whether a process does something of its own at SIGTERM, as a shell with a trap for it."""
    try:
        lines = (proc / str(pid) / "status").read_text(errors="replace").splitlines()
        masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt:", "SigBlk:"))]
    except (OSError, ValueError, IndexError):
        return True
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)
