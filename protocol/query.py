"""One question to one process and its answer: ping and status. Opens a socket, asks, closes."""

from __future__ import annotations

import contextlib
import time
from typing import Any, TypeVar

import zmq

from ps.errors import BadMessage, ConfigError, ConnectTimeout, VersionMismatch
from ps.protocol.addresses import check_address, split_key, with_key
from ps.protocol.codec import VERSION, decode, encode
from ps.protocol.dial import look
from ps.protocol.error_codes import refusal
from ps.protocol.guarded_context import GuardedContext
from ps.protocol.incoming import GLANCE, Incoming
from ps.protocol.messages import Error, Message, Ping, Pong, Status, StatusRequest
from ps.protocol.security import Security
from ps.protocol.sockets import open_socket
from ps.protocol.transports.registry import connect

PROMPT = 0.25
"""Seconds without an answer after which it is looked whether anybody can be there at all."""

Answer = TypeVar("Answer", bound=Message)


def ask(address: str, question: Message, kind: type[Answer], timeout: float, keys: str | None = None) -> Answer:
    """Send a question to an address and return its answer of the given kind. ``keys``: a folder; None: a local run's.

    ``address``: also one as a scheduler tells it of others, with the key that is to be found there.

    Raises ConnectTimeout after ``timeout`` seconds, or at once where nobody listens; VersionMismatch or Refused as the
    peer says, KeyRefused for want of the right key.
    """
    address, told = split_key(address)
    address = check_address(address)
    security = Security.to_ask(address, keys)
    expected: list[bytes | None] = [told] if told and security.folder else [*security.may_be_asked()]
    if security.folder is not None and not expected:
        raise ConfigError(f"{security.folder.path} lists no scheduler, and this process is to ask one: psctl keys add")
    with (
        GuardedContext.of(security) as context,
        open_socket(context, zmq.DEALER) as sock,
        contextlib.closing(Incoming(sock, address)) as incoming,
    ):
        try:
            connect(sock, with_key(address, expected[0] if expected else None))
        except zmq.ZMQError as error:
            raise ConfigError(f"cannot connect to {address}: {error.strerror}") from None
        began, looked, unsaid, said = time.monotonic(), False, True, 1
        while (left := began + timeout - time.monotonic()) > 0:
            incoming.look()
            if incoming.handshake.successes > said:  # the connection was cut, and what was said on it may be lost
                unsaid, said = True, incoming.handshake.successes
            if unsaid:
                with contextlib.suppress(zmq.Again):  # ZeroMQ has given the connection up before anything was said
                    sock.send(encode(question), zmq.NOBLOCK)
                    unsaid = False
            if (trouble := incoming.refusal()) is not None and (
                incoming.handshake.verdict != "another" or not expected[1:]
            ):
                raise trouble
            if incoming.handshake.failures and incoming.handshake.verdict != "mismatch" and expected[1:]:
                incoming.handshake.forget()
                expected = expected[1:]
                sock.disconnect(address)
                connect(sock, with_key(address, expected[0]))
                unsaid = True
            if not sock.poll(int(min(left, GLANCE) * 1000) + 1):
                if not looked and time.monotonic() - began >= PROMPT:
                    looked = True
                    if nobody := look(address, probing=True, timeout=left).trouble:
                        raise ConnectTimeout(f"{nobody}. Is it up, and is the address right?")
                continue
            try:
                answer = decode(incoming.receive())
            except VersionMismatch as error:
                raise VersionMismatch(f"{address}: {error}") from None
            except BadMessage:
                continue
            if isinstance(answer, Error):
                raise refusal(answer, address)
            if isinstance(answer, kind):
                return answer
    raise ConnectTimeout(f"no reply from {address} after {timeout:g} s. Is it up, and is the address right?")


def ping(address: str, timeout: float = 2.0, keys: str | None = None) -> dict[str, Any]:
    """Ask a process what it is: ``{"role", "rank", "version", "ms"}``. Raises as ``ask`` does."""
    began = time.perf_counter()
    pong = ask(address, Ping(request=0), Pong, timeout, keys)
    elapsed = (time.perf_counter() - began) * 1000
    return {"role": pong.role, "rank": pong.rank, "version": VERSION, "ms": round(elapsed, 2)}


def fetch_status(address: str, timeout: float = 5.0, keys: str | None = None) -> dict[str, Any]:
    """Ask a scheduler how its job is. Raises as ``ask`` does."""
    return ask(address, StatusRequest(request=0), Status, timeout, keys).status
