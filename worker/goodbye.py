"""Goodbye: what a worker that leaves says to the servers itself, and how what went wrong with it is told."""

from __future__ import annotations

import logging
from functools import partial

import zmq

from ps.errors import PSError
from ps.protocol.messages import Suspend
from ps.worker.batch import Batch
from ps.worker.exchange import Exchange
from ps.worker.scheduler_client import SchedulerClient

log = logging.getLogger("ps.worker")

GOODBYE = 2.0
"""Seconds for which the servers' answers to a goodbye are waited for, at most."""
MOST_FAILURE = 200
"""Characters of what went wrong."""


def say_goodbye(exchange: Exchange, scheduler: SchedulerClient, *, moved: bool) -> None:
    """Tell the servers ourselves, in case the scheduler cannot: nobody is to wait for us.

    ``moved``: they are others by now, and nobody waits for us there. Never raises PSError.
    """
    batch = Batch("goodbye")
    try:
        scheduler.check()
        for server in () if moved else exchange.servers:
            exchange.submit(batch, server, partial(Suspend, member=scheduler.member))
        exchange.wait_at_most(batch, GOODBYE)
    except (PSError, zmq.ZMQError) as error:
        log.debug("no goodbye: %s", error)


def fitted(failure: str) -> str:
    """Return what went wrong as it may travel: not too long, and proper Unicode."""
    return failure[:MOST_FAILURE].encode(errors="replace").decode()
