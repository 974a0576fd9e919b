"""Wire: services in threads, and a peer that speaks to them through a real socket. Everything has a bound."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

import zmq

from ps.protocol.codec import decode, encode
from ps.protocol.messages import Message
from ps.protocol.sockets import open_socket

BOUND = 20.0
"""Seconds that anything here may take."""

M = TypeVar("M", bound=Message)


class Service:
    """A ``serve`` call on a thread; ``result`` is what it returned or raised."""

    def __init__(self, serve: Callable[..., int], *args: Any) -> None:
        self._ready: queue.Queue[str] = queue.Queue()
        self._result: queue.Queue[int | BaseException] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(serve, args), daemon=True)
        self._thread.start()

    def _run(self, serve: Callable[..., int], args: tuple[Any, ...]) -> None:
        try:
            self._result.put(serve(*args, ready=self._ready.put))
        except BaseException as error:
            self._result.put(error)

    @property
    def address(self) -> str:
        return self._ready.get(timeout=BOUND)

    def result(self, bound: float = BOUND) -> int | BaseException:
        found = self._result.get(timeout=bound)
        self._thread.join(BOUND)
        assert not self._thread.is_alive()
        return found


class Peer:
    """A socket that says what it is told and waits for answers of a kind."""

    def __init__(self, address: str, prepare: Callable[[zmq.Socket[Any]], None] = lambda sock: None) -> None:
        """``prepare``: what is done to the socket before it connects."""
        self.context: zmq.Context[Any] = zmq.Context()
        self.socket = open_socket(self.context, zmq.DEALER)
        prepare(self.socket)
        self.socket.connect(address)

    def say(self, message: Message, payload: bytes | None = None) -> None:
        self.socket.send_multipart([encode(message), *([] if payload is None else [payload])])

    def hear(self, kind: type[M], fits: Callable[[M], bool] = lambda message: True) -> M:
        end = time.monotonic() + BOUND
        while (left := end - time.monotonic()) > 0:
            if self.socket.poll(int(left * 1000)):
                message = decode(self.socket.recv_multipart()[0])
                if isinstance(message, kind) and fits(message):
                    return message
        raise AssertionError(f"no {kind.__name__} after {BOUND:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)
