"""A peer that broke the protocol is not the end of a connection to an address: somebody else may listen there next."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
import zmq

from ps.protocol import incoming as module
from ps.protocol.dial import Dial
from ps.protocol.incoming import Incoming
from ps.protocol.sockets import open_socket
from support import zmtp


def no_command(peer: socket.socket) -> None:
    """Break off the handshake with a command that there is not."""
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    peer.sendall(b"\x04\x05\x04WHAT")


def endless_frame(peer: socket.socket) -> None:
    """Announce more than anybody takes, once the handshake is done."""
    zmtp.greet(peer, b"ROUTER").sendall(zmtp.frame(b"", declared=1 << 60))


@pytest.mark.parametrize("breach", [no_command, endless_frame])
def test_who_comes_after_somebody_that_broke_the_protocol_is_heard(
    monkeypatch: pytest.MonkeyPatch, breach: object
) -> None:
    monkeypatch.setattr(module, "ABANDONED", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    port, broken = listener.getsockname()[1], threading.Event()

    def break_it() -> None:
        with listener, listener.accept()[0] as peer:
            peer.settimeout(10)
            with contextlib.suppress(ConnectionError):
                breach(peer)  # type: ignore[operator]
                while peer.recv(4096):
                    pass
        broken.set()

    threading.Thread(target=break_it, daemon=True).start()
    with zmq.Context() as context, open_socket(context, zmq.DEALER) as dealer:
        incoming = Incoming(dealer, "the scheduler")
        dial = Dial(dealer, f"tcp://127.0.0.1:{port}", time.monotonic())
        with contextlib.closing(incoming):
            assert broken.wait(10)
            with open_socket(context, zmq.ROUTER) as router:
                router.bind(f"tcp://127.0.0.1:{port}")
                end = time.monotonic() + 10
                while not router.poll(50):
                    assert time.monotonic() < end, "nobody connects any more"
                    incoming.look()
                    assert dial.refusal(incoming, joined=True) is None
                    with contextlib.suppress(zmq.Again):
                        dealer.send(b"still here", zmq.NOBLOCK)
                assert router.recv_multipart()[1] == b"still here"
            assert not incoming.is_abandoned
