"""The file in which a scheduler says where it is, for members that an engine has started beside it.

It listens first and then writes down the address that it got, with the id of its job: whoever reads of a scheduler that
is gone, and finds another job's behind its port, is refused by that id. All hosts of the job see the file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from ps import sigterm
from ps.config.process import ProcessConfig
from ps.config.values import FILE
from ps.errors import ConfigError, ConnectTimeout, JobEnded, PeerLost, PSError, UsageError
from ps.protocol.addresses import check_address
from ps.protocol.fitting import printable
from ps.regular_file import read_regular, reason, shown
from ps.text import shortened
from ps.whole import write_whole

log = logging.getLogger("ps.membership")

LONGEST = 4096
"""Bytes of such a file, at most."""
NAP = 0.05
"""Seconds between looks for a file that is not there yet, at first."""
ENDED, FAILED = "ended", "failed"
"""What stands there in the place of an address where there will be none."""
LONGEST_NAP = 0.5
_JOB_ID = re.compile(r"[0-3]?[0-9a-f]{1,15}")


def scheduler_address(process: ProcessConfig) -> tuple[str, int]:
    """Return the scheduler's address that a process was given, and the id of the job it belongs to; 0: of any.

    Waits for a scheduler that is to say in a file where it is. Raises ConfigError when none was given, and as ``read``.
    """
    if process.scheduler is None:
        raise ConfigError("no scheduler given; use --scheduler tcp://HOST:PORT or PS_SCHEDULER")
    return await_file(process.scheduler, process.connect_timeout, log.warning)


def write(path: str, address: str, job_id: int) -> None:
    """Say that the scheduler of this job listens at this address. Raises UsageError when the file cannot be written."""
    try:
        write_whole(Path(path), f"{address} {job_id:x}\n")
    except PSError as error:
        raise UsageError(f"cannot say at {shown(path)} where the scheduler is: {error}") from None


def write_end(path: str, error: PSError) -> None:
    """Say that there will be no scheduler, and why: the job has ended before, or this one cannot begin."""
    word = ENDED if isinstance(error, JobEnded) else FAILED
    with contextlib.suppress(PSError):  # then they wait for as long as they do anyway
        write_whole(Path(path), f"{word} {shortened(' '.join(str(error).split()), LONGEST // 4)}\n")


def remove(path: str, address: str) -> None:
    """Remove the file, unless another scheduler has written it since."""
    with contextlib.suppress(OSError, ValueError, PSError):
        if _read(Path(path))[0] == address:
            Path(path).unlink()


def read(scheduler: str) -> tuple[str, int]:
    """Return the address and the job's id in ``file:PATH``; an address that is given itself is of any job, 0.

    Raises ConfigError for what is no address, ConnectTimeout where there is no such file, JobEnded or PeerLost where
    the scheduler has written that there will be none.
    """
    if not scheduler.startswith(FILE):
        return check_address(scheduler), 0
    path = Path(scheduler.removeprefix(FILE))
    try:
        return _read(path)
    except FileNotFoundError:
        raise ConnectTimeout(
            f"there is no {shown(path)}: the scheduler that is to write its address there has not begun, or has ended"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the scheduler's address in {shown(path)}: {reason(error)}") from None


def await_file(scheduler: str, limit: float, say: Callable[[str], None]) -> tuple[str, int]:
    """Return what ``read`` does as soon as the file is there, and say what is waited for.

    Raises ConnectTimeout after ``limit`` seconds without it, SystemExit when this process is asked to end meanwhile.
    """
    began, nap, said = time.monotonic(), NAP, 1.0
    while True:
        try:
            return read(scheduler)
        except ConnectTimeout as error:
            waited = time.monotonic() - began
            if waited >= limit:
                raise ConnectTimeout(f"waited {limit:g} s, and {error}") from None
        if waited >= said:
            say(f"waiting {waited:.0f} s for the scheduler to say in {shown(scheduler.removeprefix(FILE))} where it is")
            said *= 2
        sigterm.check()
        time.sleep(min(nap, limit - waited))
        nap = min(2 * nap, LONGEST_NAP)


def _read(path: Path) -> tuple[str, int]:
    with contextlib.suppress(OSError), os.scandir(path.parent):
        pass  # a network's file system remembers for up to a minute that a file was missing, until its folder is opened
    words = read_regular(path, LONGEST).decode("utf-8", "replace").split()
    if words[:1] == [ENDED]:
        raise JobEnded(printable(" ".join(words[1:])))
    if words[:1] == [FAILED]:
        raise PeerLost(f"the scheduler has not begun: {printable(' '.join(words[1:]))}")
    if len(words) != 2:
        raise ConfigError(f"{shown(path)} does not hold an address and a job's id")
    if not _JOB_ID.fullmatch(words[1]):
        raise ConfigError(f"{shown(path)} holds no job's id, but {words[1]!r:.60}")
    return check_address(words[0]), int(words[1], 16)
