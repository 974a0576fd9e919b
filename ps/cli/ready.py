"""What a role does as a process: saying that it is ready, and noticing that its launcher is gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ps.descriptors import take_descriptor
from ps.launch import lifeline
from ps.launch.readiness import READY


def watch_launcher(*, is_worker: bool = True) -> bool:
    """Make this process end when its launcher does, workers first; return whether it has one."""
    take_descriptor(lifeline.TAKEN)
    take_descriptor(lifeline.LIVING)  # open from here on, and nobody who is started here has it
    fd = take_descriptor(lifeline.VARIABLE)
    if fd is None:
        return False
    grace = os.environ.pop(lifeline.GRACE, None)
    delay = 0.0 if is_worker else lifeline.AFTER_WORKERS
    lifeline.watch(fd, os.environ.get("PS_RUNTIME_DIR"), float(grace) if grace else None, delay)
    return True


def announcer(
    has_launcher: bool, describe: Callable[[str], str], say: Callable[[str], None] | None = None
) -> Callable[[str], None]:
    """Return the function to call with an address once a role listens there.

    It tells ``PS_READY_FD``, if there is one, and prints ``describe(address)``, or says it by ``say``, unless a
    launcher does that.
    """
    fd = take_descriptor(READY)

    def announce(address: str) -> None:
        if fd is not None:
            os.write(fd, f"{address}\n".encode())
            os.close(fd)
        if not has_launcher and say is not None:
            say(describe(address))
        elif not has_launcher:
            print(describe(address), file=sys.stderr, flush=True)

    return announce
