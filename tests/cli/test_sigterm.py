"""SIGTERM ends a process in whatever moment it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from ps import sigterm


def test_nothing_is_asked_until_it_is() -> None:
    sigterm.forget()
    sigterm.check()
    with pytest.raises(SystemExit) as caught:
        sigterm.terminate(signal.SIGTERM, None)
    assert caught.value.code == 143
    with pytest.raises(SystemExit):
        sigterm.check()
    sigterm.forget()
    sigterm.check()


def test_a_second_asking_at_once_is_the_same_asking() -> None:
    sigterm.forget()
    with pytest.raises(SystemExit):
        sigterm.terminate(signal.SIGTERM, None)
    sigterm.terminate(signal.SIGTERM, None)
    sigterm.forget()


def test_what_closes_a_process_goes_through_though_it_is_asked_to_end_meanwhile() -> None:
    sigterm.forget()
    with sigterm.heeded(), pytest.raises(SystemExit) as caught:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            with sigterm.closing():
                sigterm.forget()
                os.kill(os.getpid(), signal.SIGTERM)
                sigterm.check()
                closed = sigterm.asked()
    assert caught.value.code == 143 and closed


def test_what_was_ignored_at_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with sigterm.heeded():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


FORKS = """
import os, signal, threading, time
from ps import sigterm

def child_ends_by(signum, where, wait=False):
    up, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, b"up")
        time.sleep(20)
        os._exit(77)
    if wait:
        os.read(up, 2)
    os.kill(pid, signum)
    ends[where] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

ends = {}
with sigterm.heeded():
    child_ends_by(signal.SIGTERM, "main")
    thread = threading.Thread(target=child_ends_by, args=(signal.SIGTERM, "thread"))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is sigterm.terminate
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(5))
    child_ends_by(signal.SIGTERM, "own", wait=True)
print(ends)
"""


def test_what_a_script_forks_has_the_default_handler_from_its_first_instant_unless_the_script_set_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=30)
    assert done.stdout == "{'main': -15, 'thread': -15, 'own': 5}\n", done.stderr


LOST = """
import gc, os, signal, sys, threading
import ps.server.shard.service as service
from ps.protocol.transports.shm_listener import ShmListener

class Swallow:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000): pass

receive = ShmListener.receive
def swallowing(self, events):
    Swallow()
    return receive(self, events)
ShmListener.receive = swallowing
from ps.cli import main
sys.exit(main())
"""


def test_a_signal_that_falls_into_a_finalizer_ends_the_server_all_the_same() -> None:
    command = [sys.executable, "-c", LOST, "server", "--scheduler", "127.0.0.1:1", "--connect-timeout", "30"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, env={**os.environ})
    assert ended.returncode == 143, ended.stderr
    assert "Exception ignored" not in ended.stderr, "a server ends between two turns, and nowhere else"


FIRST = """
import os, signal, threading, time
from ps import sigterm

done = threading.Event()
with sigterm.heeded():
    sigterm.first(lambda asked_at: done.is_set())
    os.kill(os.getpid(), signal.SIGTERM)
    sigterm.check()
    print("went on", sigterm.status())
    {then}
    try:
        time.sleep(30)
    except SystemExit as leave:
        print("ends", leave.code)
"""


@pytest.mark.parametrize("then", ["done.set()", "time.sleep(1.1); os.kill(os.getpid(), signal.SIGTERM)"])
def test_what_is_to_be_done_first_is_waited_for_until_it_is_done_or_somebody_asks_again(then: str) -> None:
    code = FIRST.format(
        then=then
        if then.startswith("done")
        else f"threading.Thread(target=lambda: ({then.replace('; ', ', ')})).start()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert found.stdout.split("\n")[:2] == ["went on 143", "ends 143"], found.stdout + found.stderr
