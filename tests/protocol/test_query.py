"""Promises of a single question: an answer, or within the time one line that names the peer."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ps.errors import ConfigError, ConnectTimeout, Refused, VersionMismatch
from ps.protocol.codec import MAGIC, VERSION, encode
from ps.protocol.inbox import Inbox
from ps.protocol.messages import Error, HeartbeatAck, Ping, Pong, Status, View
from ps.protocol.query import ask, fetch_status, ping

HEAD = MAGIC + bytes((VERSION,))

Listen = Callable[..., tuple[Inbox, str]]


@pytest.fixture
def peer(listen: Listen) -> Iterator[Callable[[list[list[bytes]]], str]]:
    """Return a function that answers the first question by these messages and returns its address."""
    threads: list[threading.Thread] = []
    stop = threading.Event()

    def begin(answers: list[list[bytes]]) -> str:
        inbox, address = listen()

        def run() -> None:
            while not stop.is_set():
                if inbox.socket.poll(50):
                    origin = inbox.socket.recv_multipart()[0]
                    for frames in answers:
                        inbox.socket.send_multipart([origin, *frames])

        threads.append(threading.Thread(target=run))
        threads[0].start()
        return address

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


def test_a_ping_says_who_is_there(peer: Any) -> None:
    found = ping(peer([[encode(Pong(0, "scheduler", 0))]]))
    assert (found["role"], found["rank"], found["version"]) == ("scheduler", 0, VERSION)
    assert 0 <= found["ms"] < 2000


def test_an_inbox_answers_a_ping(listen: Listen) -> None:
    inbox, address = listen()
    answered = threading.Thread(target=lambda: inbox.socket.poll(10_000) and list(inbox.receive(1)))
    answered.start()
    assert ping(address, 10.0)["role"] == "server"
    answered.join()


def test_garbage_and_other_messages_are_passed_over_until_the_answer_comes(peer: Any) -> None:
    noise = [[os.urandom(50)], [b""], [HEAD + b"\x0d\xc1"], [encode(HeartbeatAck(3))], [encode(Ping(0)), b"payload"]]
    address = peer([*noise, [encode(View(1, "running", "", "", {}, ()))], [encode(Status(0, {"phase": "running"}))]])
    assert fetch_status(address) == {"phase": "running"}


def test_endless_garbage_ends_with_the_time(peer: Any) -> None:
    address = peer([[os.urandom(50)]] * 500)
    began = time.monotonic()
    with pytest.raises(ConnectTimeout, match=f"no reply from {address} after 0.3 s"):
        ping(address, 0.3)
    assert time.monotonic() - began < 3


def test_nobody_there_is_a_timeout_that_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, never says a word
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectTimeout, match=f"no reply from {address} after 0.2 s. Is it up"):
            ping(address, 0.2)
    with pytest.raises(ConnectTimeout, match=address):
        ping(address, 0.2)


def test_a_host_that_cannot_be_found_is_one_line(tmp_path: Any) -> None:
    with pytest.raises((ConnectTimeout, ConfigError), match="no-such-host"):
        ping("tcp://no-such-host.invalid:7070", 0.2)
    with pytest.raises((ConnectTimeout, ConfigError), match=r"gone\.sock"):
        ping(f"ipc://{tmp_path}/gone.sock", 0.2)
    with pytest.raises(ConfigError, match="not an address"):
        ping("nonsense", 0.2)
    with pytest.raises(ConfigError, match="cannot connect to ipc"):
        ping("ipc:///" + "d" * 200, 0.2)


def test_an_answer_in_another_version_names_both_and_the_peer(peer: Any) -> None:
    address = peer([[b"PS\x63" + encode(Pong(0, "server", 1))[3:]]])
    with pytest.raises(VersionMismatch, match=f"{address}: .* version 99, this process version {VERSION}"):
        ping(address)


def test_a_peer_of_another_version_is_understood_when_it_says_so(peer: Any) -> None:
    address = peer([[b"PS\x63" + encode(Error(0, "version", "the peer speaks protocol version 1, this one 99"))[3:]]])
    with pytest.raises(VersionMismatch, match=f"{address}: .*version 1, this one 99"):
        ping(address)


def test_a_refusal_is_raised_with_its_words(peer: Any) -> None:
    address = peer([[encode(Error(0, "bad-message", "a server has no use for StatusRequest"))]])
    with pytest.raises(Refused, match=f"{address}: a server has no use"):
        ask(address, Ping(0), Status, 2.0)


def test_asking_leaves_no_socket_open(peer: Any) -> None:
    address = peer([[encode(Pong(0, "server", 1))]])
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        ping(address)
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # noqa: PTH208
