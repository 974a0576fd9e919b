"""Promises of the scheduler about servers' addresses: one that it cannot reach is said by name, and holds nobody up."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from ps.protocol.dial import Route
from ps.server.scheduler.reach import MOST, Reach
from support.cluster import wait_until


class Record:
    """What is looked at of a member."""

    def __init__(self, *addresses: str, role: str = "server", here: bool = False) -> None:
        self.addresses, self.role, self.here, self.rank = addresses, role, here, 3


def tried(record: Any) -> tuple[list[str], list[str]]:
    asked, said = list[str](), list[str]()

    def look(address: str, probing: bool) -> Route:
        assert probing
        asked.append(address)
        return Route(trouble="no answer within 1 s")

    Reach(said.append, look).try_out(record)
    wait_until(lambda: not any(thread.name == "reach" for thread in threading.enumerate()))
    return asked, said


def test_an_address_without_an_answer_is_said_with_whose_it_is_and_what_to_do() -> None:
    asked, [said] = tried(Record(f"tcp://10.0.0.9:7071?key={'ab' * 32}", "ipc:///tmp/x"))
    assert asked == ["tcp://10.0.0.9:7071"]
    assert said.startswith("server 3 at tcp://10.0.0.9:7071 cannot be reached from here: no answer within 1 s. ")
    assert "--advertise" in said


@pytest.mark.parametrize(
    "record",
    [
        Record("tcp://10.0.0.9:7071", here=True),
        Record("tcp://127.0.0.1:7071"),
        Record("tcp://[::1]:7071"),
        Record("tcp://localhost:7071"),
        Record("tcp://10.0.0.9:7071", role="worker"),
    ],
)
def test_what_is_of_this_host_or_no_servers_is_not_tried(record: Any) -> None:
    assert tried(record) == ([], [])


def test_no_name_is_looked_up_on_the_schedulers_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *about, **more: pytest.fail("somebody is asked"))
    assert tried(Record("tcp://far.example:7071"))[0] == ["tcp://far.example:7071"]


def test_a_slow_one_holds_nobody_up_and_few_wait() -> None:
    free, asked = threading.Event(), list[str]()

    def look(address: str, probing: bool) -> Route:
        asked.append(address)
        free.wait(20)
        return Route()

    reach = Reach(lambda text: None, look)
    for number in range(3 * MOST):
        reach.try_out(Record(f"tcp://10.0.1.1:{number + 1}"))  # type: ignore[arg-type]
    free.set()
    wait_until(lambda: not any(thread.name == "reach" for thread in threading.enumerate()))
    assert MOST <= len(asked) <= MOST + 1
