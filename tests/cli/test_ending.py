"""SIGTERM ends a process in whatever moment it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ps import ending


def test_nothing_is_asked_until_it_is() -> None:
    ending.forget()
    ending.check()
    with pytest.raises(SystemExit) as caught:
        ending.terminate(signal.SIGTERM, None)
    assert caught.value.code == 143
    with pytest.raises(SystemExit):
        ending.check()
    ending.forget()
    ending.check()


LOST = """
import gc, os, signal, sys, threading
import ps.server.service as service
from ps.server.lines import Lines

class Swallow:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass

receive = Lines.receive
def swallowing(self, events):
    Swallow()
    return receive(self, events)
Lines.receive = swallowing
from ps.cli import main
sys.exit(main())
"""


def test_a_signal_that_falls_into_a_finalizer_ends_the_server_all_the_same() -> None:
    command = [sys.executable, "-c", LOST, "server", "--scheduler", "127.0.0.1:1", "--connect-timeout", "30"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, env={**os.environ})
    assert ended.returncode == 143, ended.stderr
    assert "Exception ignored" in ended.stderr, "the signal was not lost, so nothing was tested"
