"""Lifeline: a pipe by which children learn that their launcher is gone, however it died.

The launcher alone holds the write end. Each child waits on the read end; end of file means no launcher.
"""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "PS_LIFELINE_FD"
GRACE = "PS_LIFELINE_GRACE"
"""Seconds between the two signals, where they are others than the setting's."""
LIVING, TAKEN = "PS_LIVING_FD", "PS_TAKEN_FD"
"""Locked files, open for as long as a process of a run lives: the next run with its ``--state``, or its folder of
checkpoints, waits for all."""


AFTER_WORKERS = 1.5
"""Seconds by which servers and scheduler follow the workers, which say goodbye to them."""
SPARE = 5.0
"""Seconds beyond all that in which the processes of a run that was cut off may end, before they count as hung."""


def watch(fd: int, runtime_dir: str | None = None, grace: float | None = None, delay: float = 0.0) -> threading.Thread:
    """End this process, and its group if it leads one, when ``fd`` reaches its end: SIGTERM, then SIGKILL.

    ``runtime_dir``, the launcher's temporary directory, is removed then: nobody else is left to do it. ``grace`` are
    the seconds between the two signals, the setting of this name if it is None; ``delay`` those before the first.

    Called before anything large is loaded, and loads nothing large itself: until this thread runs,
    a process may outlive its launcher.
    """
    os.set_inheritable(fd, False)
    thread = threading.Thread(target=_wait, args=(fd, runtime_dir, grace, delay), name="lifeline", daemon=True)
    thread.start()
    return thread


def _wait(fd: int, runtime_dir: str | None, grace: float | None, delay: float) -> None:
    try:
        while os.read(fd, 1):
            pass
    except OSError:
        return  # somebody closed the descriptor under us: no telling what became of the launcher
    _remove(runtime_dir)
    time.sleep(delay)
    _signal(signal.SIGTERM)
    time.sleep(_setting() if grace is None else grace)
    _remove(runtime_dir)
    _signal(signal.SIGKILL)


def _signal(signum: int) -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signum)
    else:
        os.kill(os.getpid(), signum)


def _setting() -> float:
    from ps.config import ProcessConfig, process_from_env
    from ps.errors import PSError

    try:
        return process_from_env(os.environ).grace
    except PSError:  # the script has changed our variables
        return ProcessConfig().grace


def _remove(runtime_dir: str | None) -> None:
    import shutil
    from pathlib import Path

    from ps.protocol.directory import PREFIX

    if runtime_dir and Path(runtime_dir).name.startswith(PREFIX):
        shutil.rmtree(runtime_dir, ignore_errors=True)
