"""KeyedJob: a scheduler and a server with keys, and what peers say to them by hand."""

from __future__ import annotations

import random
import time
from typing import Any

from ps.config import ProcessConfig
from ps.protocol.messages import Error, Hello, Message, Welcome
from ps.protocol.query import fetch_status
from support.keyed import Keyed, KeyedPeer, Ring


class Job(Keyed):
    """A scheduler and a server with keys."""

    def __init__(self, ring: Ring, **explicit: Any) -> None:
        super().__init__()
        self.ring = ring
        self.address = self.scheduler(ProcessConfig(keys=ring["scheduler"]), **{"servers": 1, "workers": 2, **explicit})
        self.there = self.server(ProcessConfig(keys=ring["server"], scheduler=self.address))

    def peer(self, name: str, to: str = "scheduler") -> KeyedPeer:
        expected = self.ring.folder(to).own.public.curve
        return KeyedPeer(self.address if to == "scheduler" else self.there, self.ring.folder(name), expected)

    def status(self) -> Any:
        return fetch_status(self.address, 10.0, self.ring["operator"])

    def until(self, fits: Any) -> Any:
        end = time.monotonic() + 20
        while not fits(status := self.status()):
            assert time.monotonic() < end, status
            time.sleep(0.05)
        return status


def hello(role: str = "worker", **more: Any) -> Hello:
    return Hello(0, random.getrandbits(61), role, -1, "h", 1, "", more.pop("addresses", ()), {}, **more)  # type: ignore[arg-type]


def joined(peer: KeyedPeer, message: Hello | None = None) -> Welcome:
    peer.say(message or hello())
    return peer.hear(Welcome)


def told(peer: KeyedPeer, message: Message) -> Error:
    peer.say(message, b"12345678" if message.payload else None)
    return peer.hear(Error)
