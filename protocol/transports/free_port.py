"""Free ports: those that the system does not give to outgoing connections, where there are any.

A scheduler that is started anew listens where it was before. In the meantime a port of the system's own range may be
taken by any connection that this host makes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""From where to where the system takes ports for outgoing connections."""
LOW, HIGH = 20_000, 65_535
"""Ports that hardly any program has as its own."""
TRIES = 30


def draw_ports(reserved: Path = RANGE, chance: random.Random | None = None) -> Iterator[int]:
    """Yield a few ports outside of the system's range; none where that has nearly all of them, or is not known."""
    low, high = _range(reserved)
    found = [*range(LOW, min(low, HIGH + 1)), *range(max(high + 1, LOW), HIGH + 1)]
    yield from (chance or random.Random()).sample(found, min(TRIES, len(found)))


def _range(file: Path) -> Sequence[int]:
    try:
        low, high = (int(word) for word in file.read_text().split())
    except (OSError, ValueError):
        return 0, HIGH
    return low, high
