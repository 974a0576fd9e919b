"""Promises of pid: a process is called gone only when it is, and never by who cannot know."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ps.protocol import pid

pytestmark = pytest.mark.skipif(not pid.realm(), reason="/proc says nothing about processes here")

HERE = pid.realm()


def other(code: str) -> tuple[subprocess.Popen[str], str]:
    """Return a process that said its mark and went on with ``code``."""
    script = f"from ps.protocol import pid; print(pid.mark(), flush=True)\n{code}"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_one_that_lives_is_not_gone() -> None:
    assert not pid.is_gone(os.getpid(), pid.mark(), HERE)


def test_one_that_was_killed_is_gone_before_and_after_it_was_waited_for() -> None:
    process, mark = other("input()")
    assert not pid.is_gone(process.pid, mark, HERE)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert pid.is_gone(process.pid, mark, HERE), "a zombie"
    process.communicate()
    assert pid.is_gone(process.pid, mark, HERE)


def test_one_whose_id_another_process_has_is_gone() -> None:
    realm, _, born = pid.mark().rpartition(" ")
    assert pid.is_gone(os.getpid(), f"{realm} {int(born) - 1}", HERE)


@pytest.mark.parametrize("mark", ["", "77", "boot pid:[1] time:[1] 77", f"{HERE}", f"x{HERE} 77"])
def test_nothing_is_known_of_one_that_is_elsewhere_or_does_not_say_who_it_is(mark: str) -> None:
    assert not pid.is_gone(1 << 30, mark, HERE)


def test_nothing_is_known_to_one_that_does_not_know_where_it_is() -> None:
    assert not pid.is_gone(1 << 30, " 77", "")


@pytest.mark.parametrize("number", [0, -1, 1 << 31, 1 << 62, -(1 << 62)])
def test_a_number_that_is_no_process_id_is_nobody(number: int) -> None:
    assert not pid.is_gone(number, pid.mark(), HERE)


def test_processes_of_one_host_are_of_one_realm_and_have_marks_of_their_own() -> None:
    process, mark = other("")
    process.communicate()
    assert mark.startswith(f"{HERE} ") and mark != pid.mark()


@pytest.mark.parametrize(
    ("address", "own"),
    [("127.0.0.1", True), ("::ffff:127.0.0.1", True), ("192.0.2.1", False), ("2001:db8::1", False), ("", False)],
)
def test_an_address_is_this_hosts_own_when_it_can_be_bound_to(address: str, own: bool) -> None:
    assert pid.is_own_address(address) is own
