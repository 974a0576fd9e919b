"""TransportTraits: what a job's settings have to know of a transport. How it works is for ``ps.protocol`` to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class TransportTraits:
    """One way for tensors between workers and servers."""

    place: str
    """``module:class`` of a ``ps.protocol.transports.transport.Transport``, made when it is first needed."""

    shares_memory: bool = False
    """Whether tensors lie in memory that both ends have, so that there is nothing to compress."""

    serves: str = ""
    """The setting's word that this one is taken for, before the transport of that name; only workers come this way."""


TRANSPORTS = {
    "shm": TransportTraits("ps.protocol.transports.shm:Shm", shares_memory=True),
    "unix": TransportTraits("ps.protocol.transports.stream:Stream", serves="ipc"),
    "ipc": TransportTraits("ps.protocol.transports.ipc:Ipc"),
    "tcp": TransportTraits("ps.protocol.transports.tcp:Tcp"),
}
"""A transport is one line here and one file in ``ps/protocol/transports``. The fastest is the first."""


class TransportNames(Sequence[str]):
    """What the setting takes: ``auto``, or the name of any transport that there is by then."""

    def __getitem__(self, index: Any) -> Any:
        return ("auto", *(name for name in reversed(TRANSPORTS) if not TRANSPORTS[name].serves))[index]

    def __len__(self) -> int:
        return 1 + sum(not traits.serves for traits in TRANSPORTS.values())


NAMES = TransportNames()


def shares_memory(name: str) -> bool:
    """Whether a job that demands this transport has all tensors in shared memory."""
    return name in TRANSPORTS and TRANSPORTS[name].shares_memory
