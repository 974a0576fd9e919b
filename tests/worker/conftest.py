"""Connections for tests: to a job in this process, and to none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from ps.worker import exchange as exchange_module
from ps.worker import request_queue
from support.fakeserver import KB, Setup
from support.fixtures import fake as fake
from support.fixtures import local as local
from support.fixtures import loopback as loopback


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Setup]]:
    """Make an exchange with fake servers that loses its patience soon: ``setup(servers=2)``."""
    monkeypatch.setattr(exchange_module, "SLICE", 2)
    monkeypatch.setattr(exchange_module, "INQUIRE", 0.02)
    monkeypatch.setattr(request_queue, "INQUIRE", 0.02)
    with contextlib.ExitStack() as stack:
        made: list[Setup] = []  # a socket that is collected as garbage first stays open, and the context waits for it
        context: zmq.Context[Any] = zmq.Context()
        stack.callback(context.destroy, linger=0)

        def make(servers: int = 1, window: int = 8 * KB, silence_limit: float = 20.0) -> Setup:
            made.append(Setup(context, servers, window, silence_limit))
            return made[-1]

        yield make
