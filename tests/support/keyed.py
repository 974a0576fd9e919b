"""Keyed: folders of keys that know each other, and peers that come with a key of their own, or with none."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from ps.config import ProcessConfig
from ps.errors import PSError
from ps.keys import key_folder
from ps.keys.key_folder import KeyFolder
from ps.protocol.sockets import EVENT
from ps.server.scheduler.service import Scheduler
from ps.server.shard.service import serve as serve_server
from support.wire import BOUND, Peer, Service

HANDSHAKES = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "in",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refused",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "failed",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "failed",
    zmq.EVENT_DISCONNECTED: "cut",
}


class Ring:
    """Folders of a scheduler, which lists everybody, and of others, who list the scheduler."""

    def __init__(self, path: Path, **roles: str) -> None:
        """``roles``: of the others, by name."""
        self.path = path
        key_folder.create(path / "scheduler", "scheduler", "scheduler", signing=False)
        for name, role in roles.items():
            self.add(name, role)

    def __getitem__(self, name: str) -> str:
        return str(self.path / name)

    def folder(self, name: str) -> KeyFolder:
        return KeyFolder.read(self.path / name)

    def add(self, name: str, role: str, *, listed: bool = True) -> None:
        key_folder.create(self.path / name, name, role, signing=False)
        key_folder.add(self.path / name, "scheduler", self.path / "scheduler" / "public.key")
        if listed:
            key_folder.add(self.path / "scheduler", name, self.path / name / "public.key")

    def revoke(self, name: str) -> None:
        key_folder.revoke(self.path / "scheduler", name)


class Keyed:
    """Schedulers and servers in threads, all of which end with a ``with`` block."""

    def __init__(self) -> None:
        self._schedulers: list[Scheduler] = []
        self._services: list[Service] = []

    def scheduler(self, process: ProcessConfig, **explicit: Any) -> str:
        """Start one; return its address."""
        made = Scheduler(explicit, process)
        self._schedulers.append(made)
        return self._begin(lambda ready: made.run(ready))

    def server(self, process: ProcessConfig) -> str:
        """Start one; return its address."""
        return self._begin(lambda ready: serve_server(process, ready=ready))

    def _begin(self, serve: Callable[..., int]) -> str:
        self._services.append(Service(serve))
        return self._services[-1].address

    def __enter__(self) -> Keyed:
        return self

    def __exit__(self, *_: object) -> None:
        for scheduler in self._schedulers:
            state = scheduler._state
            for record in state.live("worker"):
                record.state = "left"
                state._roster.remove(record)
            state._finish("failed", "timeout", "the test is over")
        for service in self._services:
            assert isinstance(service.result(40.0), PSError)  # one that had not joined yet asks for 30 s


class KeyedPeer(Peer):
    """A DEALER with the keys of a folder, with none, or with something else in their place."""

    def __init__(
        self,
        address: str,
        own: KeyFolder | None,
        expected: bytes | None = None,
        *,
        plain: bool = False,
        handshake: float = 10.0,
    ) -> None:
        """``handshake``: seconds for a handshake, after which it tries again."""
        self.seen: Counter[str] = Counter()

        def prepare(sock: zmq.Socket[Any]) -> None:
            sock.setsockopt(zmq.HANDSHAKE_IVL, int(handshake * 1000))
            if plain:
                sock.plain_username, sock.plain_password = b"admin", b"admin"  # type: ignore[attr-defined]
            if own is not None and expected is not None:
                sock.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(own.own.public.curve))
                sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(own.own.curve))
                sock.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(expected))
            self._monitor = sock.get_monitor_socket()

        super().__init__(address, prepare)

    def until(self, *words: str, bound: float = BOUND) -> str:
        """Return which of these became of a connection first; nothing when none did in time."""
        end = time.monotonic() + bound
        while (left := end - time.monotonic()) > 0:
            if not self._monitor.poll(int(left * 1000) + 1):
                continue
            event, _ = EVENT.unpack(self._monitor.recv_multipart()[0])
            if word := HANDSHAKES.get(event, ""):
                self.seen[word] += 1
                if word in words:
                    return word
        return ""

    def __exit__(self, *_: object) -> None:
        self.socket.disable_monitor()
        self._monitor.close(0)
        super().__exit__()


def garbage_is_cut_off(address: str) -> bool:
    """Whether somebody who says something else than ZMTP is cut off."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=BOUND) as sock:
        sock.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32) + b"\x04\xff" * 400)
        try:
            while sock.recv(1 << 16):
                pass
        except ConnectionError:
            pass
        return True
