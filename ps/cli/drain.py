"""psctl drain: a server of a running job hands over all of its chunks to the others, and ends."""

from __future__ import annotations

import math
import time
from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_scheduler
from ps.cli.value import real, whole
from ps.config.values import LONGEST_WAIT
from ps.errors import ConnectTimeout, Refused
from ps.protocol.ranges import MOST_RANK

AGAIN = 2.0
"""Seconds after which it is asked again: the scheduler may have been restarted."""
GONE = 60.0
"""Seconds for which a scheduler that was there and is not any more is waited for."""
NAP = 0.5


@click.command(cls=HelpfulCommand, examples="psctl drain 1 --scheduler 10.0.0.1:7070")
@process_options("status")
@click.argument("server", type=whole(low=0, high=MOST_RANK), metavar="SERVER")
@click.option(
    "--timeout",
    type=real(above=0, high=LONGEST_WAIT),
    default=600.0,
    metavar="X",
    help="seconds to wait until it is empty (600); it goes on after that",
)
def drain(server: int, timeout: float, **options: Any) -> int:
    """Have the server of rank SERVER hand over all of its chunks to the others while training goes on, and end."""
    from ps.protocol.messages import Drained, DrainRequest
    from ps.protocol.query import ask, fetch_status

    address, until, gone = find_scheduler(options), time.monotonic() + timeout, math.inf
    fetch_status(address, AGAIN)  # whether somebody is there at all
    while True:
        asked = time.monotonic()
        patience = max(0.1, min(AGAIN, until - asked))
        try:
            answer = ask(address, DrainRequest(1, server), Drained, patience)
            break
        except ConnectTimeout:
            if (now := time.monotonic()) - asked < patience:  # nobody is there
                gone = min(gone, now)
                if now - gone > GONE:
                    raise
                time.sleep(NAP)
            else:
                gone = math.inf
            if time.monotonic() >= until:
                raise ConnectTimeout(
                    f"server {server} is not empty after {timeout:g} s; it goes on, see: psctl status "
                    f"--scheduler {address}"
                ) from None
    if answer.why:
        raise Refused(f"server {server} is not drained: {answer.why}")
    click.echo(f"server {server} has handed over all of its chunks, and ends")
    return 0
