"""psctl top: a job as it is at the moment, in a window that is drawn anew every second."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_keys, find_scheduler, timeout_option
from ps.errors import PSError

INTERVAL = 1.0
"""Seconds between two pictures."""
QUIT = b"qQ\x04"


@click.command(
    cls=HelpfulCommand,
    examples="psctl top --scheduler 10.0.0.1:7070\npsctl top > now.txt    not a terminal: once",
)
@process_options("top")
@timeout_option
def top(timeout: float, **options: Any) -> int:
    """Watch a job: its members, clocks, waits, speed, bytes and loss. q or Ctrl-C ends it."""
    from rich.console import Console

    from ps.monitor.job_watcher import JobWatcher
    from ps.monitor.top import picture
    from ps.protocol.query import fetch_status

    address, keys = find_scheduler(options), find_keys(options)
    watcher = JobWatcher(lambda: fetch_status(address, timeout, keys))
    watcher.look()
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)
        assert watcher.seen is not None
        console.print(picture(watcher.seen, watcher.curves(), 0.0, console.width))
        return 0

    from rich.live import Live

    with Live(console=console, screen=True, auto_refresh=False) as live, key_presses() as pressed:
        while True:
            assert watcher.seen is not None
            width, height = console.size
            live.update(picture(watcher.seen, watcher.curves(), watcher.silence(), width, height), refresh=True)
            if pressed(INTERVAL) & {*QUIT}:
                return 0
            with contextlib.suppress(PSError):
                watcher.look()


@contextlib.contextmanager
def key_presses() -> Iterator[Callable[[float], set[int]]]:
    """Yield what waits at most so many seconds and returns the keys that were pressed, as bytes.

    Keys count without Enter and are not shown meanwhile, where standard input is a terminal.
    """
    if not sys.stdin.isatty():
        yield _sleep
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed(seconds: float) -> set[int]:
        ready, _, _ = select.select([number], [], [], seconds)
        return {*os.read(number, 100)} if ready else set()

    try:
        tty.setcbreak(number)
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> set[int]:
    time.sleep(seconds)
    return set()
