"""Serving: one process that watches a job and answers whoever looks at it."""

from __future__ import annotations

import socket

from ps.monitor.job_watcher import JobWatcher
from ps.monitor.page import page
from ps.monitor.page_server import PageServer, yield_to_others
from ps.protocol.query import fetch_status

PATIENCE = 3.0
"""Seconds that an answer of the scheduler is waited for."""


def watcher_of(scheduler: str, keys: str | None) -> JobWatcher:
    """Return what watches the job of a scheduler, with the keys in a folder."""
    return JobWatcher(lambda: fetch_status(scheduler, PATIENCE, keys))


def serve(sock: socket.socket, watcher: JobWatcher, token: str) -> None:
    """Answer on a socket that listens, and watch, until the watcher is stopped."""
    yield_to_others()
    server = PageServer(sock, watcher, page, token)
    server.start()
    try:
        watcher.run(server.look)
    finally:
        server.close()
