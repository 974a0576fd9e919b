"""Promises of the handshake's judge: a peer with another key is told from a link that is reset."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading
import time
from collections.abc import Iterator

import zmq

from ps.protocol.handshake import EVENTS, FAILURES, Handshake
from ps.protocol.sockets import EVENT

FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def judged(port: int, key: bytes, until: float) -> Handshake:
    """Return what is made of the connections of somebody who expects a key at a port; of some at least."""
    context, judge, tried = zmq.Context(), Handshake(), 0
    with context.socket(zmq.DEALER) as sock:
        sock.curve_publickey, sock.curve_secretkey = zmq.curve_keypair()
        sock.curve_serverkey, sock.linger, sock.reconnect_ivl = key, 0, 50
        monitor = sock.get_monitor_socket(EVENTS | zmq.EVENT_CONNECTED)
        sock.connect(f"tcp://127.0.0.1:{port}")
        began = time.monotonic()
        while not judge.verdict and (tried < FAILURES or time.monotonic() - began < until):
            assert time.monotonic() - began < 20, "nothing is heard of the connections"
            if monitor.poll(100):
                event, value = EVENT.unpack(monitor.recv_multipart()[0])
                judge.hear(event, value, time.monotonic())
                tried += event == FAILED
        sock.disable_monitor()
        monitor.close(0)
    context.term()
    return judge


@contextlib.contextmanager
def resetting() -> Iterator[int]:
    """Accept who comes, and reset the connection, as a link that is cut, or what forwards to nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_another_key_is_seen() -> None:
    context, (public, secret), (other, _) = zmq.Context(), zmq.curve_keypair(), zmq.curve_keypair()
    with context.socket(zmq.ROUTER) as sock:
        sock.curve_publickey, sock.curve_secretkey, sock.curve_server, sock.linger = public, secret, True, 0
        assert judged(sock.bind_to_random_port("tcp://127.0.0.1"), other, 10.0).verdict == "another"
    context.term()


def test_a_link_that_is_reset_in_every_handshake_is_no_other_key() -> None:
    with resetting() as port:
        assert not judged(port, zmq.curve_keypair()[0], 1.0).verdict


def test_connections_that_are_closed_in_order_are_counted_from_the_last_that_was_not() -> None:
    judge = Handshake()
    before, after = (errno.EPIPE,) * (FAILURES - 1), (errno.EPIPE,) * (FAILURES - 1)
    for moment, value in enumerate((*before, errno.ECONNRESET, *after)):
        judge.hear(zmq.EVENT_CONNECTED, 0, float(moment))
        judge.hear(FAILED, value, float(moment))
    assert not judge.verdict
    judge.hear(FAILED, errno.EPIPE, float(moment))
    assert judge.verdict == "another"


def test_who_breaks_the_protocol_otherwise_than_by_his_key_has_no_wrong_key() -> None:
    unexpected, undecipherable = 0x10000001, 0x11000001
    for value, verdict in ((unexpected, ""), (undecipherable, "another")):
        judge = Handshake()
        for second in range(3 * FAILURES):
            judge.hear(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, value, float(second))
        assert judge.verdict == verdict
