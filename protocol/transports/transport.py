"""Transport: one way between a worker and a server, both its ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Protocol

import numpy as np
import zmq

from ps.dataclass import dataclass
from ps.protocol.descriptor_guard import DescriptorGuard
from ps.protocol.messages import Identify
from ps.protocol.segment import Segment
from ps.protocol.sockets import Socket
from ps.protocol.spin import Spin
from ps.protocol.transports.channel import ServerChannel
from ps.protocol.transports.listener import Listener
from ps.protocol.unread import MOST_UNREAD
from ps.protocol.worker_memory import WorkerMemory
from ps.xp import HostArray

Copy = Callable[[HostArray, HostArray], None]
"""Copies into an array what is in another one of its length and type."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens. What ZeroMQ carries comes in at ``router``; what does not has its own listener."""

    router: Socket
    host: str
    port: int
    directory: Path
    """Private to this process's owner."""
    poller: zmq.Poller
    """Where a listener registers what wakes the server."""
    rejected: Counter[str]
    """What was dropped, by reason: listeners count it there."""
    guard: DescriptorGuard
    """Of the router, which is told of a Unix socket bound there."""
    spin: Spin = field(default_factory=Spin)
    """Where a listener registers what mostly follows at once on what it was answered."""
    copy: Copy = np.copyto
    """Puts weights where a worker has them."""
    most_unread: Callable[[], int] = lambda: MOST_UNREAD
    """Returns how many bytes of payloads are kept for a peer which does not read them, at most."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The address that workers are told, and the listener, unless they come in at the router."""

    address: str
    listener: Listener | None = None


@dataclass(frozen=True, slots=True)
class Sharing:
    """What a worker hands over to servers that share memory; ``lack`` says why there is none."""

    memory: WorkerMemory | None = None
    weights: Segment | None = None
    """Memory that is offered to keep the weights in."""
    lack: str = ""
    apart: bool = False
    """Whether the memory is not for a model, whose size may be another."""


class Transport(Protocol):
    """How servers offer one way, and workers take it. Addresses are ``name://…``."""

    name: str

    def listen(self, place: Place) -> Listening | None:
        """Listen; None where this way cannot be offered. Raises AddressInUse or ConfigError."""
        ...

    def reaches(self, address: str) -> bool:
        """Whether this process can connect to the address; the proof is the thing itself, not a name."""
        ...

    def open(self, context: zmq.Context[Socket], address: str, identity: Identify, sharing: Sharing) -> ServerChannel:
        """Connect, and say who this is first. Raises Unshared, which says why: then the next way is tried."""
        ...
