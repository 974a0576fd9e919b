"""Parts: the questions a comparison answers, each with its setups and those who can take part in it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from race.case import Case, Peer, Setup

MAIN = ("memory", "shared_memory", "raw_socket", "paramserver", "gloo", "ddp", "ray_actor", "zmq_server")
SMALL = 40_000
"""Bytes of 10 k parameters."""

KB, MB = 1000, 1_000_000
KIB, MIB = 1 << 10, 1 << 20

OURS = ("ps tcp", "ps ipc", "ps shm")
FEW = ("in place", *OURS, "gloo, 1 thread", "DDP", "ray actor", "pyzmq server, ipc")
OWN = ("in place", *OURS, "pyzmq server, ipc")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: the model of the main tables in bytes, and whether a few points are enough."""

    nbytes: int = 40 * MB
    quick: bool = False

    def some(self, *values: int) -> tuple[int, ...]:
        """Return the values of a sweep: all, or the first, the middle and the last when quick."""
        return (values[0], values[len(values) // 2], values[-1]) if self.quick and len(values) > 3 else values


@dataclass(frozen=True, slots=True)
class Part:
    """One question. ``x`` is what its setups differ in, for a sweep; ``names`` who of ``modules`` takes part (all)."""

    title: str
    setups: Callable[[Scale], list[Setup]]
    modules: Sequence[str] = MAIN
    names: Sequence[str] = ()
    x: str = ""


PARTS: dict[str, Part] = {
    "one": Part("1 worker, 1 server", lambda s: [Setup(1, 1, s.nbytes)]),
    "two": Part("2 workers, 1 server", lambda s: [Setup(2, 1, s.nbytes)]),
    "four": Part("4 workers, 2 servers", lambda s: [Setup(4, 2, s.nbytes)]),
    "workers": Part(
        "as workers grow, 2 servers",
        lambda s: [Setup(n, 2, s.nbytes) for n in ((1, 2, 4) if s.quick else (1, 2, 4, 6, 8))],
        names=FEW,
        x="workers",
    ),
    "sizes": Part(
        "as the model grows, 2 workers, 1 server",
        lambda s: [
            Setup(2, 1, n) for n in ((40 * KB, 4 * MB) if s.quick else (40 * KB, 400 * KB, 4 * MB, 40 * MB, 400 * MB))
        ],
        names=tuple(name for name in FEW if name not in ("DDP", "ray actor")),
        x="nbytes",
    ),
    "chunks": Part(
        "as chunks grow, 1 worker, 1 server",
        lambda s: [Setup(1, 1, s.nbytes, n) for n in s.some(256 * KIB, 512 * KIB, MIB, 2 * MIB, 4 * MIB, 8 * MIB)],
        names=OWN,
        x="chunk",
    ),
    "servers": Part(
        "as servers grow, 2 workers",
        lambda s: [Setup(2, n, s.nbytes) for n in ((1, 2) if s.quick else (1, 2, 3, 4))],
        names=OWN,
        x="servers",
    ),
    "latency": Part(
        "10 k parameters, 1 worker, 1 server",
        lambda s: [Setup(1, 1, SMALL)],
        modules=("zmq_echo", "raw_socket", "paramserver", "ray_actor", "zmq_server"),
    ),
}
OTHERS = tuple(name for name in (*MAIN, "zmq_echo") if name not in ("memory", "shared_memory", "paramserver"))
"""What can be left out: everything but the limits of memory and this system."""


def title(name: str, setup: Setup) -> str:
    """Return the words above a setup's table."""
    part = PARTS[name]
    value = {
        "": "" if name == "latency" else show_bytes(setup.nbytes),
        "workers": f"{setup.workers} workers" if setup.workers > 1 else "1 worker",
        "servers": f"{setup.servers} servers" if setup.servers > 1 else "1 server",
        "nbytes": show_bytes(setup.nbytes),
        "chunk": f"chunks of {(setup.chunk or 0) >> 10} KiB",
    }[part.x]
    return f"{part.title}: {value}" if value else part.title


def show_bytes(nbytes: int) -> str:
    """Return 40000000 as "40 MB"."""
    return f"{nbytes / MB:g} MB" if nbytes >= MB else f"{nbytes / KB:g} KB"


def members(name: str, setup: Setup, peers: Sequence[str]) -> tuple[list[Case], dict[str, str]]:
    """Return the cases of a part's setup, and why others cannot take part.

    ``peers`` are the modules that may, besides the limits of memory and this system.
    """
    part = PARTS[name]
    found, absent = [], {}
    for module in part.modules:
        if module in OTHERS and module not in peers:
            continue
        peer: Peer = importlib.import_module(f"peers.{module}")
        cases = [case for case in peer.cases(setup) if not part.names or case.name in part.names]
        for case in cases:
            reason = peer.absent(case.options)
            if reason:
                absent[case.name] = reason
            else:
                found.append(case)
    return found, absent
