"""Strangers: what anybody may do to a job whose addresses they know, over real sockets, until the time is over."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import zmq

from ps.errors import ProtocolError
from ps.protocol import messages as m
from ps.protocol.codec import decode, encode
from ps.protocol.sockets import open_socket
from support import zmtp
from support.cluster import Cluster
from support.schema import extreme


class Siege(Protocol):
    """A job under attack."""

    cluster: Cluster
    addresses: list[str]
    did: Counter[str]

    def check(self) -> None:
        """Raise Ended when the time is over."""


class Ended(Exception):
    """The time is over."""


class Target:
    """One address, as somebody with a socket of their own reaches it. Never waits for anybody."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        self.address = address
        self.socket = open_socket(context, zmq.DEALER)
        self.socket.setsockopt(zmq.SNDHWM, 100)
        self.socket.connect(address)

    def say(self, message: m.Message, payload: bytes | None = None) -> bool:
        """Say something; return whether there was room for it."""
        try:
            header = encode(message)
        except ProtocolError:
            return True
        with contextlib.suppress(zmq.Again):
            self.socket.send_multipart([header, *([] if payload is None else [payload])], zmq.NOBLOCK)
            return True
        time.sleep(0.002)
        return False

    def hear(self, seconds: float = 0.0) -> list[m.Message]:
        """Return what has come."""
        found: list[m.Message] = []
        self.socket.poll(int(seconds * 1000))
        with contextlib.suppress(zmq.Again):
            while len(found) < 1000:
                with contextlib.suppress(ProtocolError):
                    found.append(decode(self.socket.recv_multipart(zmq.NOBLOCK)[0]))
        return found


def tcp(siege: Siege, chance: random.Random) -> str:
    return chance.choice([a for a in siege.addresses if a.startswith("tcp")])


def raw_socket(siege: Siege, chance: random.Random) -> socket.socket:
    address = chance.choice([a for a in siege.addresses if a.startswith(("tcp", "ipc", "shm", "unix"))])
    scheme, _, rest = address.partition("://")
    if scheme == "tcp":
        host, _, port = rest.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=5)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect(rest)
    return sock


def raw(siege: Siege, chance: random.Random) -> None:
    """Raw bytes, half greetings, sizes that are not so, on every kind of socket."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    while True:
        siege.check()
        with contextlib.suppress(OSError), raw_socket(siege, chance) as sock:
            whole = greeting + ready + zmtp.frame(encode(m.Ping(1)))
            kind = chance.randrange(6)
            if kind == 0:
                sock.sendall(chance.randbytes(chance.randrange(1, 3000)))
            elif kind == 1:
                sock.sendall(whole[: chance.randrange(len(whole))])
            elif kind == 2:
                broken = bytearray(whole)
                broken[chance.randrange(len(broken))] = chance.randrange(256)
                sock.sendall(broken)
            elif kind == 3:
                sock.sendall(
                    greeting + ready + zmtp.frame(b"PS", declared=chance.choice((64 << 20, (64 << 20) + 1, 1 << 62)))
                )
            elif kind == 4:
                sock.sendall(struct.pack("<I", chance.choice((0, 5, 1 << 20, (1 << 32) - 1))) + chance.randbytes(5))
                with contextlib.suppress(OSError):
                    socket.send_fds(sock, [b"\x05\0\0\0PS\x06\x0e\x91"], [0, 1, 2][: chance.randrange(1, 4)])
            else:
                extremes = encode_any(chance)
                sock.sendall(struct.pack("<I", len(extremes)) + extremes)
            if chance.random() < 0.5:
                sock.settimeout(0.05)
                sock.recv(1000)
        siege.did["raw"] += 1
        time.sleep(0.005)


def encode_any(chance: random.Random) -> bytes:
    while True:
        with contextlib.suppress(ProtocolError):
            return encode(extreme(chance.choice(list(m.TYPES.values())), chance))


def words(siege: Siege, chance: random.Random) -> None:
    """Valid messages with extreme values, some with members' ids, to all; answers read or not."""
    context: zmq.Context[Any] = zmq.Context()
    try:
        while True:
            target = Target(context, tcp(siege, chance))
            ids = [row["member"] for row in siege.cluster.status().get("workers", []) if "member" in row] or [1, 2, 3]
            for _ in range(400):
                siege.check()
                cls = chance.choice(list(m.TYPES.values()))
                message = extreme(cls, chance, **({"member": chance.choice(ids)} if chance.random() < 0.7 else {}))
                if isinstance(message, m.Hello):  # it would have a seat, and the job wait for it when it has gone
                    continue
                target.say(message, chance.randbytes(chance.choice((0, 8, 1024, 300_000))) if cls.payload else None)
                siege.did["words"] += 1
                if chance.random() < 0.1:
                    target.hear()
            target.socket.close(0)
    finally:
        context.destroy(linger=0)


def silent(siege: Siege, chance: random.Random) -> None:
    """1,500 connections that say nothing, now and then let go."""
    while True:
        held: list[socket.socket] = []
        try:
            for _ in range(1500):
                siege.check()
                with contextlib.suppress(OSError):
                    held.append(raw_socket(siege, chance))
                    siege.did["silent"] += 1
                if len(held) % 100 == 0:
                    time.sleep(0.02)
            for _ in range(80):
                siege.check()
                time.sleep(0.1)
        finally:
            for sock in held:
                sock.close()


def slow(siege: Siege, chance: random.Random) -> None:
    """200 that send a frame a byte at a time."""
    held: list[socket.socket] = []
    try:
        for _ in range(200):
            siege.check()
            with contextlib.suppress(OSError):
                sock = zmtp.connect(tcp(siege, chance))
                sock.sendall(zmtp.frame(b"", declared=chance.choice((1 << 10, 8 << 20, 64 << 20)))[:9])
                sock.setblocking(False)
                held.append(sock)
        while True:
            for sock in held:
                siege.check()
                with contextlib.suppress(OSError):
                    sock.send(b"P" * chance.choice((1, 1, 1000)))
                    siege.did["slow"] += 1
            time.sleep(0.05)
    finally:
        for sock in held:
            sock.close()


def deaf(siege: Siege, chance: random.Random) -> None:
    """Peers that ask and never read."""
    while True:
        with contextlib.suppress(OSError), zmtp.connect(tcp(siege, chance)) as sock:
            sock.settimeout(2)
            asked = zmtp.frame(encode(chance.choice((m.Ping(1), m.StatusRequest(1), m.Attach(1, 5, 0)))))
            for _ in range(chance.choice((50, 400))):
                siege.check()
                sock.sendall(asked * 20)
                siege.did["deaf"] += 20
                time.sleep(0.01)


def endless(siege: Siege, chance: random.Random) -> None:
    """A message of more and more frames, until the connection is cut."""
    while True:
        with contextlib.suppress(OSError), zmtp.connect(tcp(siege, chance)) as sock:
            sock.settimeout(2)
            size = chance.choice((0, 1, 100, 10_000, 1 << 20))
            frames = zmtp.frame(bytes(size), more=True) * max(1, (1 << 18) // (size + 2))
            while True:
                siege.check()
                sock.sendall(frames)
                siege.did["endless: quarters of a MiB"] += 1
                time.sleep(0.01)
        siege.did["endless, cut off"] += 1


ALL: list[Callable[[Siege, random.Random], None]] = [raw, words, silent, slow, deaf, endless]
