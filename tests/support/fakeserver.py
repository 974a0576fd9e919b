"""FakeServer: a scripted server, and an exchange with some of them. One thread, real sockets.

A server moves only when the exchange looks for failures (``check``), which it does between its waits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import zmq

from ps.errors import PSError
from ps.protocol.codec import decode, encode
from ps.protocol.incoming import Incoming
from ps.protocol.messages import (
    Inquire,
    Message,
    Pull,
    Push,
    Pushed,
    Weights,
)
from ps.protocol.sockets import open_socket
from ps.protocol.transports.registry import connect
from ps.protocol.transports.zmq_channel import ZmqChannel
from ps.worker.batch import Batch
from ps.worker.exchange import Exchange
from ps.worker.server_channels import ServerChannels
from ps.worker.traffic import Traffic

KB = 1024
MEMBER = 7


class FakeServer:
    """A ROUTER that does what a script says with each message; by default it keeps silent."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.origin = b""
        self.socket = open_socket(context, zmq.ROUTER, high_water=0)  # what found no room a real one is asked for again
        self.socket.bind("tcp://127.0.0.1:*")
        self.address = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.script: Callable[[Any], list[Any]] = lambda message: []
        self.heard: list[Any] = []
        self.reading = True

    def turn(self) -> None:
        while self.reading and self.socket.poll(0):
            self.origin, header, *_ = self.socket.recv_multipart()
            message = decode(header)
            self.heard.append(message)
            for reply in self.script(message):
                self.say(*(reply if isinstance(reply, list) else [reply]))

    def say(self, *frames: Any) -> None:
        raw = [encode(frame) if isinstance(frame, Message) else frame for frame in frames]
        self.socket.send_multipart([self.origin, *raw])

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]


def _dialled(context: zmq.Context[Any], address: str) -> ZmqChannel:
    sock = open_socket(context, zmq.DEALER)
    connect(sock, address)
    return ZmqChannel(sock, Incoming(sock, "a server"))


class Setup:
    """An exchange with fake servers, which move whenever it looks for failures."""

    def __init__(self, context: zmq.Context[Any], servers: int, window: int, silence_limit: float) -> None:
        self.servers = [FakeServer(context) for _ in range(servers)]
        self.traffic = Traffic()
        self.failure: PSError | None = None
        self.checks = 0
        self.during: Callable[[], None] = lambda: None
        channels = ServerChannels(
            [f"server {rank} (host, pid {rank}) at {server.address}" for rank, server in enumerate(self.servers)],
            [_dialled(context, server.address) for server in self.servers],
        )
        self.exchange = Exchange(
            MEMBER,
            channels,
            window=window,
            silence_limit=silence_limit,
            check=self.check,
            traffic=self.traffic,
        )

    def check(self) -> None:
        self.checks += 1
        for server in self.servers:
            server.turn()
        self.during()
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.exchange.close()
        for server in self.servers:
            server.socket.close()

    def push(self, batch: Batch, chunk: int, nbytes: int = KB, server: int = 0, pull: bool = False) -> np.ndarray:
        payload = np.full(nbytes, chunk % 251, np.uint8)
        make = partial(Push, member=MEMBER, chunk=chunk, clock=417, version=0, examples=1.0, scale=1.0, pull=pull)
        self.exchange.submit(batch, server, make, payload, (chunk * nbytes, (chunk + 1) * nbytes))
        return payload

    def pull(self, batch: Batch, chunk: int = 0, nbytes: int = KB) -> None:
        make = partial(Pull, member=MEMBER, chunk=chunk, clock=417)
        self.exchange.submit(batch, 0, make, None, (chunk * nbytes, (chunk + 1) * nbytes))


def pushed(message: Any) -> list[Any]:
    return [Pushed(message.request, message.chunk, 1, 0)] if isinstance(message, Push) else []


def weights(message: Any, nbytes: int = KB, fill: int = 9) -> list[Any]:
    if isinstance(message, Inquire):  # on a busy machine it is asked where the answer is, which is on its way
        return []
    return [[Weights(message.request, message.chunk, 5, 2), bytes([fill]) * nbytes]]
