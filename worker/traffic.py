"""Traffic: what a store has sent, received and waited for."""

from __future__ import annotations

from ps.dataclass import dataclass


@dataclass(slots=True)
class Traffic:
    """Sums since the store was made; bytes and seconds."""

    bytes_up: int = 0
    bytes_down: int = 0
    wait_s: float = 0.0
