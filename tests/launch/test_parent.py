"""A tied child ends with who started it, whenever that one is gone; one that is not tied any more does not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(sys.platform != "linux", reason="the system has no such thing")]

STARTS_AND_DIES = """
import os, sys
from ps.launch.child import Child
keep = int(sys.argv[1])
child = Child("worker", 0, [sys.executable, "-c", sys.argv[2]], os.environ, [keep], tied=True)
child.pipes[0].readline()
os.kill(os.getpid(), 9)
"""
TIED = "import time; print('up', flush=True); time.sleep(60)"
UNTIED = """
import os, time
from ps.launch import parent
parent.untie()
before, end = os.getppid(), time.monotonic() + 20
print('up', flush=True)
while os.getppid() == before and time.monotonic() < end: time.sleep(0.01)
os.write({keep}, b'alone')
"""


def last_words(code: str) -> bytes:
    """Return what a tied child writes after its parent was killed, as soon as it has ended."""
    end, keep = os.pipe()
    os.set_inheritable(keep, True)
    try:
        command = [sys.executable, "-c", STARTS_AND_DIES, str(keep), code.format(keep=keep)]
        assert subprocess.run(command, pass_fds=[keep], timeout=60).returncode == -signal.SIGKILL
    finally:
        os.close(keep)
    with os.fdopen(end, "rb") as pipe:  # at its end when the last process that holds the other side is gone
        assert select.select([pipe], [], [], 30.0)[0], "the child outlives its parent"
        return pipe.read()


def test_a_tied_child_does_not_outlive_its_parent() -> None:
    assert last_words(TIED) == b""


def test_a_child_that_is_untied_does() -> None:
    assert last_words(UNTIED) == b"alone"


def test_a_child_whose_parent_is_gone_before_it_is_tied_ends_at_once() -> None:
    code = "import os; from ps.launch import parent; parent.tie(os.getppid() + 1)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 128 + signal.SIGKILL
