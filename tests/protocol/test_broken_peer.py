"""A peer that broke the protocol is not the end of a connection to an address: somebody else may listen there next."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import zmq

from ps.protocol import incoming as module
from ps.protocol.codec import decode
from ps.protocol.dial import Dial
from ps.protocol.incoming import Incoming
from ps.protocol.messages import Identify, Pull
from ps.protocol.sockets import Socket, open_socket
from ps.protocol.transports.tcp import Tcp
from ps.protocol.transports.transport import Sharing
from ps.worker.batch import Batch, Request
from ps.worker.request_queue import RequestQueue
from ps.worker.traffic import Traffic
from support import zmtp


def no_command(peer: socket.socket) -> None:
    """Break off the handshake with a command that there is not."""
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    peer.sendall(b"\x04\x05\x04WHAT")


def endless_frame(peer: socket.socket) -> None:
    """Announce more than anybody takes, once the handshake is done."""
    zmtp.greet(peer, b"ROUTER").sendall(zmtp.frame(b"", declared=1 << 60))


@contextlib.contextmanager
def breaking(breach: Callable[[socket.socket], None]) -> Iterator[tuple[int, threading.Event]]:
    """Yield the port of somebody who breaks the protocol once, and what is set when he has gone."""
    listener, broken = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def meet(peer: socket.socket) -> bool:
        peer.settimeout(10)
        if not peer.recv(1, socket.MSG_PEEK):  # who only looks whether anybody is here says nothing
            return False
        with contextlib.suppress(ConnectionError):
            breach(peer)
            while peer.recv(4096):
                pass
        return True

    def break_it() -> None:
        with listener:
            met = False
            while not met:
                with listener.accept()[0] as peer:
                    met = meet(peer)
        broken.set()

    threading.Thread(target=break_it, daemon=True).start()
    yield listener.getsockname()[1], broken


def await_word(context: zmq.Context[Socket], port: int, turn: Callable[[], None]) -> bytes:
    """Listen where he did, and return what is heard there."""
    with open_socket(context, zmq.ROUTER) as router:
        router.bind(f"tcp://127.0.0.1:{port}")
        end = time.monotonic() + 10
        while not router.poll(50):
            assert time.monotonic() < end, "nobody connects any more"
            turn()
        return router.recv_multipart()[1]


@pytest.mark.parametrize("breach", [no_command, endless_frame])
def test_a_scheduler_that_comes_after_somebody_who_broke_the_protocol_is_found(
    monkeypatch: pytest.MonkeyPatch, breach: Callable[[socket.socket], None]
) -> None:
    monkeypatch.setattr(module, "ABANDONED", 0.3)
    with breaking(breach) as (port, broken), zmq.Context() as context, open_socket(context, zmq.DEALER) as dealer:
        incoming = Incoming(dealer, "the scheduler")
        dial = Dial(dealer, f"tcp://127.0.0.1:{port}", time.monotonic())

        def turn() -> None:
            incoming.look()
            assert dial.refusal(incoming, joined=True) is None
            with contextlib.suppress(zmq.Again):
                dealer.send(b"still here", zmq.NOBLOCK)

        with contextlib.closing(incoming):
            assert broken.wait(10)
            assert await_word(context, port, turn) == b"still here"
            assert not incoming.is_abandoned


@pytest.mark.parametrize("breach", [no_command, endless_frame])
def test_a_server_whose_connection_ended_by_something_that_is_no_message_is_asked_on_another(
    monkeypatch: pytest.MonkeyPatch, breach: Callable[[socket.socket], None]
) -> None:
    monkeypatch.setattr(module, "ABANDONED", 0.3)
    with breaking(breach) as (port, broken), zmq.Context() as context:
        about = Identify(0, 1, 2, 3, 4, 5)
        channel = Tcp().open(context, f"tcp://127.0.0.1:{port}", about, Sharing())
        queue = RequestQueue("server 0", channel, 1 << 20, Traffic(), identity=about)

        def turn() -> None:
            channel.incoming.look()
            queue.inquire(2, 1000.0)

        with contextlib.closing(channel):
            queue.inflight[1] = Request(Pull(1, 2, 3, 4), None, (0, 0), Batch("a pull"))
            assert broken.wait(10)
            assert decode(await_word(context, port, turn)) == about
